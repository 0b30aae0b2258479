-- Counts are of postings that name a skill; those that only imply it have a column of their own.
create or replace view skill_frequency as
select e.normalized_skill, count(distinct e.job_id) filter (where e.skill_type = 'explicit') as job_count,
    count(distinct e.enhancement_id) filter (where e.skill_type = 'explicit') as total_mentions,
    array_agg(distinct s.country::text order by s.country::text) as countries,
    count(distinct e.job_id) filter (where e.skill_type = 'implicit') as implicit_count
from enhanced_skills e
join sighting s on s.job_id = e.job_id
where not e.is_duplicate
group by e.normalized_skill
order by job_count desc, implicit_count desc, e.normalized_skill;

create or replace view country_skill_distribution as
select s.country, e.normalized_skill,
    count(distinct e.job_id) filter (where e.skill_type = 'explicit') as job_count,
    count(distinct e.job_id) filter (where e.skill_type = 'implicit') as implicit_count
from enhanced_skills e
join sighting s on s.job_id = e.job_id
where not e.is_duplicate
group by s.country, e.normalized_skill
order by s.country, job_count desc, implicit_count desc, e.normalized_skill;
