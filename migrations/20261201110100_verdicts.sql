-- What people say about finds: the latest verdict on a subject decides, the earlier ones are its history.
create table verdict (
    verdict_id bigint generated always as identity primary key,
    -- Row that was judged: an extraction or an enhancement. Rows come and go with versions, a verdict stays.
    item_id uuid not null,
    kind text not null check (kind in ('link', 'skill', 'implied')),
    -- Folded wording of a mention, or `SKILL > IMPLIED`: what the verdict holds for, in every posting.
    subject text not null check (subject <> ''),
    verdict text not null check (verdict in ('accept', 'reject', 'correct')),
    -- What holds from now on: the concept, and the name of the skill.
    uri text,
    label text,
    -- What was seen: wording, name, concept, confidence, postings.
    shown jsonb not null,
    -- Where it was seen.
    job_id uuid references posting (job_id) on delete set null,
    field text check (field in ('title', 'description', 'requirements')),
    span_start integer,
    span_end integer,
    reviewer text not null check (reviewer <> ''),
    why text not null,
    decided_at timestamptz not null default now()
);
create index verdict_item on verdict (item_id);
create index verdict_subject on verdict (subject, verdict_id desc);
create index verdict_posting on verdict (job_id);

do $$
begin
    if exists (select from pg_roles where rolname = 'obs_owner') then
        grant all on verdict to obs_owner;
    end if;
    if exists (select from pg_roles where rolname = 'obs_writer') then
        grant select, insert, update, delete on verdict to obs_writer;
    end if;
end $$;
