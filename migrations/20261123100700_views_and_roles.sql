-- Countries are those of the sightings: one text seen in two countries counts in both.
create view skill_frequency as
select e.normalized_skill, count(distinct e.job_id) as job_count,
    count(distinct e.enhancement_id) as total_mentions,
    array_agg(distinct s.country::text order by s.country::text) as countries
from enhanced_skills e
join sighting s on s.job_id = e.job_id
where not e.is_duplicate
group by e.normalized_skill
order by job_count desc, e.normalized_skill;

create view country_skill_distribution as
select s.country, e.normalized_skill, count(distinct e.job_id) as job_count
from enhanced_skills e
join sighting s on s.job_id = e.job_id
where not e.is_duplicate
group by s.country, e.normalized_skill
order by s.country, job_count desc, e.normalized_skill;

-- Group roles without login; an administrator grants them to people. Where the migrating user may not
-- create roles (managed databases), the administrator creates them and grants the same.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['obs_owner', 'obs_writer', 'obs_reader'] loop
        begin
            if not exists (select from pg_roles where rolname = wanted) then
                execute format('create role %I nologin', wanted);
            end if;
        exception
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then raise notice 'role % was not created: not permitted', wanted;
        end;
    end loop;
    if exists (select from pg_roles where rolname = 'obs_owner') then
        grant all on all tables in schema public to obs_owner;
        grant all on all sequences in schema public to obs_owner;
    end if;
    if exists (select from pg_roles where rolname = 'obs_writer') then
        grant select, insert, update, delete on all tables in schema public to obs_writer;
        grant usage on all sequences in schema public to obs_writer;
        alter default privileges in schema public grant select, insert, update, delete on tables to obs_writer;
        alter default privileges in schema public grant usage on sequences to obs_writer;
    end if;
    if exists (select from pg_roles where rolname = 'obs_reader') then
        grant select on all tables in schema public to obs_reader;
        alter default privileges in schema public grant select on tables to obs_reader;
    end if;
end $$;
