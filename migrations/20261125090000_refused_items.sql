-- What was refused on the way in, by the field at fault: counted at every try, never kept.
create table refused_item (
    source text not null,
    field text not null,
    count bigint not null,
    last_at timestamptz not null default now(),
    primary key (source, field)
);
