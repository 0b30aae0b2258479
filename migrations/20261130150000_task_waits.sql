-- A task that waits for something that is away or busy keeps its tries; one whose worker was lost, or whose batch failed,
-- is worked on alone.
alter table task
    add column waiting_since timestamptz,
    add column alone boolean not null default false,
    add column losses smallint not null default 0,
    alter column max_retries set default 10;
create index task_waiting on task (run_id) where waiting_since is not null;
