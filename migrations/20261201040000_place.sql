-- Where an advertisement names a skill: asked of the candidate, or a duty of the job. Null where the tagger did not mark it.
alter table extracted_skills add column place text check (place in ('required', 'duty'));

create or replace view analysis.mentions as
select extraction_id, job_id, label, kind, category, skill_type, extraction_method, confidence_score, source_field,
    source_section, esco_uri, preferred_label, extracted_at, place
from extracted_skills;
