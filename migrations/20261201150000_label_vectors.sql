-- Vectors of preferred labels, by text: versions of a taxonomy share those of the labels that they share.
create table label_vector (
    model_id smallint not null,
    label text not null,
    dimensions integer not null,
    vec vector not null check (vector_dims(vec) = dimensions),
    primary key (model_id, label),
    foreign key (model_id, dimensions) references embedding_model (model_id, dimensions) on delete cascade
);
create index concept_label_preferred on concept_label (label) where preferred;

-- Taxonomies all of whose preferred labels have a vector of the model.
create table taxonomy_vectors (
    taxonomy_id integer not null references taxonomy on delete cascade,
    model_id smallint not null references embedding_model on delete cascade,
    embedded_at timestamptz not null default now(),
    primary key (taxonomy_id, model_id)
);

-- As `ensure_embedding_index`, for labels: made once they have their vectors, which is quicker than before.
create function ensure_label_index(wanted smallint) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    width integer;
begin
    select dimensions into strict width from embedding_model where model_id = wanted;
    -- pgvector indexes at most 2,000 dimensions; beyond that an exact scan serves.
    if width <= 2000 then
        execute format(
            'create index if not exists label_vector_hnsw_%s on label_vector
             using hnsw ((vec::vector(%s)) vector_cosine_ops) where model_id = %s', wanted, width, wanted);
    end if;
end $$;
revoke execute on function ensure_label_index(smallint) from public;

do $$
declare
    wanted text;
begin
    foreach wanted in array array['obs_owner', 'obs_writer'] loop
        if exists (select from pg_roles where rolname = wanted) then
            execute format('grant execute on function ensure_label_index(smallint) to %I', wanted);
        end if;
    end loop;
    if exists (select from pg_roles where rolname = 'obs_owner') then
        grant all on label_vector, taxonomy_vectors to obs_owner;
    end if;
    if exists (select from pg_roles where rolname = 'obs_writer') then
        grant select, insert, update, delete on label_vector, taxonomy_vectors to obs_writer;
    end if;
end $$;
