create table taxonomy (
    taxonomy_id integer generated always as identity primary key,
    name text not null,
    version text not null,
    active boolean not null default false,
    imported_at timestamptz not null default now(),
    unique (name, version)
);
create unique index taxonomy_one_active on taxonomy (active) where active;

create table concept (
    taxonomy_id integer not null references taxonomy on delete cascade,
    uri text not null,
    kind text not null check (kind in ('skill', 'occupation')),
    class text not null default '',
    primary key (taxonomy_id, uri)
);

create table concept_label (
    taxonomy_id integer not null,
    uri text not null,
    language text not null,
    label text not null,
    preferred boolean not null,
    primary key (taxonomy_id, uri, language, label),
    foreign key (taxonomy_id, uri) references concept on delete cascade
);

create table concept_relation (
    taxonomy_id integer not null references taxonomy on delete cascade,
    from_uri text not null,
    kind text not null,
    to_uri text not null,
    primary key (taxonomy_id, from_uri, kind, to_uri)
);
