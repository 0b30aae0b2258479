-- A visit is one search of a portal in a country by a run. With it a later reader can tell an advertisement that went away
-- from a portal that could not be read.
create table visit (
    visit_id bigint generated always as identity primary key,
    run_id uuid references run on delete set null,
    portal varchar(50) not null references portal (name),
    country char(2) not null references country (code),
    -- What was searched for; empty for the whole listing.
    query text not null,
    began_at timestamptz not null default now(),
    -- The last checkpoint.
    last_at timestamptz not null default now(),
    ended_at timestamptz,
    pages integer not null default 0,
    -- Advertisements whose text was new, and those whose text was stored before.
    new bigint not null default 0,
    folded bigint not null default 0,
    -- exhausted, page_limit, blocked ...: why it ended; null while it goes on or since it was interrupted.
    stop_reason text,
    check ((ended_at is null) = (stop_reason is null))
);
create unique index visit_open on visit (run_id, portal, country, query) where ended_at is null;
create index visit_place on visit (portal, country, began_at);

-- Which visits saw a sighting.
create table sighting_visit (
    sighting_id bigint not null references sighting on delete cascade,
    visit_id bigint not null references visit on delete cascade,
    primary key (sighting_id, visit_id)
);
create index sighting_visit_visit on sighting_visit (visit_id);
