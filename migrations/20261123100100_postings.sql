-- Identity is global and unpartitioned, the heavy payload is partitioned by country: a unique key of a
-- partitioned table would have to hold the country, and the same text could then be stored twice.
create table posting (
    job_id uuid primary key,
    content_hash varchar(64) not null unique check (content_hash ~ '^[0-9a-f]{64}$'),
    country char(2) not null references country (code),
    -- The text this one replaced on the same portal under the same external id.
    previous_job_id uuid references posting (job_id) on delete set null,
    first_seen timestamptz not null,
    last_seen timestamptz not null,
    unique (country, job_id)
);

create table sighting (
    sighting_id bigint generated always as identity primary key,
    portal varchar(50) not null references portal (name),
    external_id text not null check (external_id <> ''),
    country char(2) not null references country (code),
    url text not null,
    job_id uuid not null references posting (job_id) on delete cascade,
    posted_date date,
    first_seen timestamptz not null,
    last_seen timestamptz not null,
    times_seen integer not null default 1,
    unique (portal, country, external_id, job_id)
);
create index sighting_job on sighting (job_id);
create index sighting_country on sighting (country, portal);

create table raw_jobs (
    job_id uuid not null default gen_random_uuid(),
    portal varchar(50) not null,
    country char(2) not null,
    url text not null,
    title text not null check (title <> ''),
    company text,
    location text,
    description text not null check (description <> ''),
    requirements text,
    salary_raw text,
    contract_type varchar(50),
    remote_type varchar(50),
    posted_date date,
    scraped_at timestamptz not null default current_timestamp,
    content_hash varchar(64) not null,
    raw_html text,
    is_processed boolean not null default false,
    primary key (country, job_id),
    foreign key (country, job_id) references posting (country, job_id) on update cascade on delete cascade
) partition by list (country);

create index idx_portal_country on raw_jobs (portal, country);
create index idx_processed on raw_jobs (is_processed);
create index idx_scraped_at on raw_jobs (scraped_at);

-- Makes the partition of a country and accepts its postings from then on.
create function enable_country(wanted text) returns void language plpgsql as $$
begin
    if not exists (select from country where code = wanted) then
        raise exception 'unknown country %', wanted using errcode = 'foreign_key_violation';
    end if;
    execute format('create table if not exists raw_jobs_%s partition of raw_jobs for values in (%L)',
        lower(wanted), wanted);
    update country set enabled = true where code = wanted;
end $$;

select enable_country('CO'), enable_country('MX'), enable_country('AR');

-- Pieces of personal data removed on the way in, by kind and day: figures only, never the data.
create table privacy_count (
    day date not null,
    kind text not null,
    pieces bigint not null,
    primary key (day, kind)
);
