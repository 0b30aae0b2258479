-- Analysts read views without what may carry personal data: addresses and ids of advertisements, who placed them and where,
-- their text and quotations from it, reasons and problems that quote what they are about. A table of tomorrow is read by
-- nobody until a migration shows it here.
do $$
begin
    -- Whoever may not make a schema gets it from an administrator.
    if to_regnamespace('analysis') is null then
        create schema analysis;
    end if;
end $$;

create view analysis.countries as
select code, name, time_zone, currency, enabled from country;

create view analysis.portals as
select name, first_seen from portal;

create view analysis.postings as
select r.job_id, r.country, r.portal, r.title, r.salary_raw, r.contract_type, r.remote_type, r.posted_date, r.scraped_at,
    p.first_seen, p.last_seen, p.previous_job_id, r.is_processed
from posting p
join raw_jobs r on r.country = p.country and r.job_id = p.job_id;

create view analysis.sightings as
select sighting_id, job_id, portal, country, posted_date, first_seen, last_seen, first_collected, last_collected, times_seen
from sighting;

create view analysis.visits as
select visit_id, run_id, portal, country, began_at, last_at, ended_at, pages, new, folded, stop_reason from visit;

create view analysis.sighting_visits as
select sighting_id, visit_id from sighting_visit;

create view analysis.mentions as
select extraction_id, job_id, label, kind, category, skill_type, extraction_method, confidence_score, source_field,
    source_section, esco_uri, preferred_label, extracted_at
from extracted_skills;

create view analysis.posting_skills as
select enhancement_id, job_id, skill_id, normalized_skill, kind, category, skill_type, esco_concept_uri,
    esco_preferred_label, llm_confidence, llm_model, is_duplicate, duplicate_of_id, extraction_id, enhanced_at
from enhanced_skills;

create view analysis.skills as
select skill_id, label, kind, category, created_at from skill;

create view analysis.taxonomies as
select taxonomy_id, name, version, active, imported_at from taxonomy;

create view analysis.concepts as
select taxonomy_id, uri, kind, class from concept;

create view analysis.concept_labels as
select taxonomy_id, uri, language, label, preferred from concept_label;

create view analysis.concept_relations as
select taxonomy_id, from_uri, kind, to_uri from concept_relation;

create view analysis.runs as
select run_id, state, options -> 'portals' as portals, options -> 'countries' as countries, created_at, finished_at from run;

create view analysis.run_stages as
select run_id, stage, position, state, up_to_date, started_at, finished_at from run_stage;

create view analysis.results as
select a.analysis_id, a.run_id, a.analysis_type, a.parameters, a.results, m.name as model_name,
    m.revision as model_version, a.created_at
from analysis_results a
left join embedding_model m on m.model_id = a.model_id;

create view analysis.clusters as
select analysis_id, cluster_id, label, size, top_skills, cohesion_score from skill_cluster;

create view analysis.cluster_points as
select p.analysis_id, p.skill_id, s.label as skill, p.x, p.y, p.cluster_id, p.job_count
from skill_point p
join skill s on s.skill_id = p.skill_id;

create view analysis.reports as
select report_id, run_id, created_at from report;

create view analysis.report_files as
select report_id, name, format, bytes, sha256 from artefact;

-- How much was removed and refused: figures only.
create view analysis.privacy_counts as
select day, kind, pieces from privacy_count;

create view analysis.refused_items as
select source, field, count, last_at from refused_item;

do $$
declare
    grantor name;
begin
    if exists (select from pg_roles where rolname = 'obs_owner') then
        grant usage, create on schema analysis to obs_owner;
        grant select on all tables in schema analysis to obs_owner;
    end if;
    if exists (select from pg_roles where rolname = 'obs_reader') then
        revoke all on all tables in schema public from obs_reader;
        -- Whoever migrated before may have been somebody else.
        for grantor in
            select distinct r.rolname from pg_default_acl d
            join pg_roles r on r.oid = d.defaclrole
            cross join aclexplode(d.defaclacl) granted
            where d.defaclobjtype = 'r' and granted.grantee = 'obs_reader'::regrole
                and d.defaclnamespace = 'public'::regnamespace
        loop
            if pg_has_role(grantor, 'usage') then
                execute format(
                    'alter default privileges for role %I in schema public revoke all on tables from obs_reader', grantor);
            else
                raise warning 'tables that % will make in schema public will be read by obs_reader: revoke it as that role',
                    grantor;
            end if;
        end loop;
        grant usage on schema analysis to obs_reader;
        grant select on all tables in schema analysis to obs_reader;
        -- The published figures: labels of skills and numbers.
        grant select on skill_frequency, country_skill_distribution, skill_embeddings to obs_reader;
    end if;
end $$;
