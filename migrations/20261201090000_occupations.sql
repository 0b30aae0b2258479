-- The occupation that the title of a posting names, as the extractor found it; no row where it clearly names none.
create table posting_occupation (
    job_id uuid primary key references posting (job_id) on delete cascade,
    -- Concept of the taxonomy; null where only a CUOC code is known, whose name is then the label.
    uri text,
    label text not null,
    score double precision not null check (score between 0 and 1),
    -- Unit group of ISCO-08.
    isco text check (isco ~ '^[0-9]{4}$'),
    cuoc text,
    cuoc_label text,
    -- NAME@VERSION of the taxonomy that was active.
    taxonomy text,
    -- Version of the extraction, as in posting_stage.
    version text not null,
    check (uri is not null or cuoc is not null)
);

create view analysis.occupations as
select job_id, uri, label, score, isco, cuoc, cuoc_label, taxonomy, version from posting_occupation;

do $$
begin
    if exists (select from pg_roles where rolname = 'obs_owner') then
        grant all on posting_occupation to obs_owner;
        grant select on analysis.occupations to obs_owner;
    end if;
    if exists (select from pg_roles where rolname = 'obs_writer') then
        grant select, insert, update, delete on posting_occupation to obs_writer;
    end if;
    if exists (select from pg_roles where rolname = 'obs_reader') then
        grant select on analysis.occupations to obs_reader;
    end if;
end $$;
