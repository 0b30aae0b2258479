create table extracted_skills (
    extraction_id uuid primary key default gen_random_uuid(),
    job_id uuid not null references posting (job_id) on delete cascade,
    skill_text text not null,
    skill_type varchar(50) not null check (skill_type in ('explicit', 'implicit')),
    extraction_method varchar(50) not null,
    confidence_score double precision not null check (confidence_score between 0 and 1),
    source_section varchar(50) not null,
    -- Code points of the field `source_field`, half-open.
    span_start integer not null check (span_start >= 0),
    span_end integer not null,
    esco_uri text,
    extracted_at timestamptz not null default current_timestamp,
    -- The published columns end here.
    label text not null,
    kind text not null check (kind in ('hard', 'soft')),
    category text not null,
    source_field text not null check (source_field in ('title', 'description', 'requirements')),
    preferred_label text,
    check (span_end > span_start)
);
create index idx_skill_text on extracted_skills (skill_text);
create index extracted_skills_job on extracted_skills (job_id);

-- A skill is a distinct normalised label.
create table skill (
    skill_id bigint generated always as identity primary key,
    label text not null unique,
    kind text not null check (kind in ('hard', 'soft')),
    category text not null,
    created_at timestamptz not null default now()
);

create table enhanced_skills (
    enhancement_id uuid primary key default gen_random_uuid(),
    job_id uuid not null references posting (job_id) on delete cascade,
    original_skill_text text,
    normalized_skill text not null,
    skill_type varchar(50) not null check (skill_type in ('explicit', 'implicit')),
    esco_concept_uri text,
    esco_preferred_label text,
    llm_confidence double precision not null check (llm_confidence between 0 and 1),
    llm_reasoning text,
    is_duplicate boolean not null default false,
    duplicate_of_id uuid references enhanced_skills on delete cascade deferrable initially deferred,
    enhanced_at timestamptz not null default current_timestamp,
    -- What made the row: `rules` and its version, or the name of a language model.
    llm_model varchar(100) not null,
    -- The published columns end here.
    skill_id bigint not null references skill,
    -- The mention it stands for; null for an implicit skill.
    extraction_id uuid references extracted_skills on delete set null,
    kind text not null check (kind in ('hard', 'soft')),
    category text not null,
    check (is_duplicate = (duplicate_of_id is not null))
);
create index idx_normalized on enhanced_skills (normalized_skill);
create index idx_enhanced_at on enhanced_skills (enhanced_at);
create index enhanced_skills_job on enhanced_skills (job_id);
create index enhanced_skills_skill on enhanced_skills (skill_id) where not is_duplicate;
create index enhanced_skills_mention on enhanced_skills (extraction_id);
create index enhanced_skills_original on enhanced_skills (duplicate_of_id) where is_duplicate;

-- Which version of a stage a posting's rows come from.
create table posting_stage (
    job_id uuid not null references posting (job_id) on delete cascade,
    stage text not null check (stage in ('extract', 'enhance')),
    version text not null,
    rows integer not null,
    duration_ms double precision not null,
    finished_at timestamptz not null default now(),
    primary key (job_id, stage)
);

-- Rows that a stage refused to read, with the reason; work on the rest goes on.
create table quarantine (
    job_id uuid not null references posting (job_id) on delete cascade,
    stage text not null,
    reason text not null,
    quarantined_at timestamptz not null default now(),
    primary key (job_id, stage)
);
