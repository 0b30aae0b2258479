create table run (
    run_id uuid primary key,
    state text not null check (state in ('running', 'succeeded', 'partial', 'failed', 'cancelled')),
    options jsonb not null,
    problems text[] not null default '{}',
    -- What each stage worked with and found.
    summary jsonb not null default '{}',
    created_at timestamptz not null default now(),
    finished_at timestamptz
);
create index run_created on run (created_at desc);
create index run_active on run (created_at) where state = 'running';

create table run_stage (
    run_id uuid not null references run on delete cascade,
    stage text not null,
    position smallint not null,
    state text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'skipped', 'failed')),
    up_to_date bigint not null default 0,
    started_at timestamptz,
    finished_at timestamptz,
    primary key (run_id, stage)
);

-- A task is the message between modules.
create table task (
    task_id bigint generated always as identity primary key,
    message_id uuid not null unique default gen_random_uuid(),
    message_type text not null default 'process',
    source_module text not null,
    target_module text not null,
    run_id uuid not null references run on delete cascade,
    stage text not null,
    -- Posting id, skill id or run id: what the task is about.
    subject text not null,
    job_id uuid references posting (job_id) on delete cascade,
    payload jsonb not null default '{}',
    state text not null default 'ready' check (state in ('ready', 'running', 'done', 'failed', 'cancelled')),
    priority smallint not null default 0,
    run_at timestamptz not null default now(),
    retry_count integer not null default 0,
    max_retries integer not null default 3,
    -- Grows at each claim; a finisher that holds an older fence has lost the task.
    fence bigint not null default 0,
    worker uuid,
    lease_until timestamptz,
    last_error text,
    traceparent text,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    unique (run_id, stage, subject),
    check ((state = 'running') = (lease_until is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
create index task_ready on task (stage, priority desc, run_at, task_id) where state = 'ready';
create index task_leased on task (lease_until) where state = 'running';
create index task_progress on task (run_id, stage, state);
create index task_posting on task (job_id) where job_id is not null;

create function announce_ready_tasks() returns trigger language plpgsql as $$
begin
    perform pg_notify('observatory_task', stage) from changed where state = 'ready' group by stage;
    return null;
end $$;
create trigger task_inserted after insert on task referencing new table as changed
    for each statement execute function announce_ready_tasks();

-- A posting is processed when a stage has finished it and no task on it is open or failed.
create function follow_task_state() returns trigger language plpgsql as $$
begin
    update raw_jobs r set is_processed = truth.processed
    from (
        select p.country, p.job_id,
            exists (select from posting_stage s where s.job_id = p.job_id)
            and not exists (select from task t where t.job_id = p.job_id
                and t.state in ('ready', 'running', 'failed')) as processed
        from posting p
        where p.job_id in (select c.job_id from changed c where c.job_id is not null)
    ) truth
    where r.country = truth.country and r.job_id = truth.job_id and r.is_processed <> truth.processed;
    return null;
end $$;
create trigger task_opened after insert on task referencing new table as changed
    for each statement execute function follow_task_state();
create trigger task_moved after update on task referencing new table as changed
    for each statement execute function follow_task_state();
create trigger task_removed after delete on task referencing old table as changed
    for each statement execute function follow_task_state();
