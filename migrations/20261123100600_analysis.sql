create table analysis_results (
    analysis_id uuid primary key default gen_random_uuid(),
    run_id uuid not null references run on delete cascade,
    analysis_type varchar(50) not null,
    parameters jsonb not null,
    results jsonb not null,
    model_id smallint references embedding_model on delete set null,
    created_at timestamptz not null default current_timestamp,
    unique (run_id, analysis_type)
);
create index analysis_results_created on analysis_results (analysis_type, created_at desc);

create table skill_cluster (
    analysis_id uuid not null references analysis_results on delete cascade,
    cluster_id integer not null,
    label text not null,
    size integer not null,
    top_skills text[] not null,
    cohesion_score double precision not null,
    primary key (analysis_id, cluster_id)
);

create table skill_point (
    analysis_id uuid not null references analysis_results on delete cascade,
    skill_id bigint not null references skill on delete cascade,
    x real not null,
    y real not null,
    -- Null for noise.
    cluster_id integer,
    job_count bigint not null,
    primary key (analysis_id, skill_id),
    foreign key (analysis_id, cluster_id) references skill_cluster on delete cascade
);

create table report (
    report_id uuid primary key default gen_random_uuid(),
    run_id uuid not null unique references run on delete cascade,
    directory text not null,
    created_at timestamptz not null default now()
);

create table artefact (
    report_id uuid not null references report on delete cascade,
    name text not null,
    format text not null,
    bytes bigint not null,
    sha256 char(64) not null,
    primary key (report_id, name)
);
