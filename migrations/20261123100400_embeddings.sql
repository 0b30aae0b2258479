-- The dimension is a property of the model's row, never of the schema.
create table embedding_model (
    model_id smallint generated always as identity primary key,
    name varchar(100) not null,
    revision text not null,
    -- Name of the model's prompt for stored texts; empty if it has none.
    prompt text not null,
    dimensions integer not null check (dimensions between 1 and 16000),
    active boolean not null default false,
    created_at timestamptz not null default now(),
    unique (name, revision, prompt),
    unique (model_id, dimensions)
);
create unique index embedding_model_one_active on embedding_model (active) where active;

create table skill_embedding (
    skill_id bigint not null references skill on delete cascade,
    model_id smallint not null,
    embedding_id uuid not null unique default gen_random_uuid(),
    dimensions integer not null,
    vec vector not null check (vector_dims(vec) = dimensions),
    created_at timestamptz not null default current_timestamp,
    primary key (skill_id, model_id),
    foreign key (model_id, dimensions) references embedding_model (model_id, dimensions) on delete cascade
);

-- One similarity index for each model: HNSW needs no training rows, unlike IVFFlat on an empty table.
create function ensure_embedding_index(wanted smallint) returns void language plpgsql as $$
declare
    width integer;
begin
    select dimensions into strict width from embedding_model where model_id = wanted;
    -- pgvector indexes at most 2,000 dimensions; beyond that an exact scan serves.
    if width <= 2000 then
        execute format(
            'create index if not exists skill_embedding_hnsw_%s on skill_embedding
             using hnsw ((vec::vector(%s)) vector_cosine_ops) where model_id = %s', wanted, width, wanted);
    end if;
end $$;

create view skill_embeddings as
select e.embedding_id, s.label as skill_text, e.vec as embedding, m.name as model_name,
    m.revision as model_version, e.created_at
from skill_embedding e
join embedding_model m on m.model_id = e.model_id and m.active
join skill s on s.skill_id = e.skill_id;
