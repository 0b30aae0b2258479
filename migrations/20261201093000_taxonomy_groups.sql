-- The groups of a taxonomy's hierarchy are concepts too, and a concept may have a description in each language.
alter table concept drop constraint concept_kind_check;
alter table concept add constraint concept_kind_check check (kind in ('skill', 'occupation', 'group'));

create table concept_description (
    taxonomy_id integer not null,
    uri text not null,
    language text not null,
    description text not null,
    primary key (taxonomy_id, uri, language),
    foreign key (taxonomy_id, uri) references concept on delete cascade
);

create view analysis.concept_descriptions as
select taxonomy_id, uri, language, description from concept_description;

do $$
begin
    if exists (select from pg_roles where rolname = 'obs_owner') then
        grant all on concept_description to obs_owner;
        grant select on analysis.concept_descriptions to obs_owner;
    end if;
    if exists (select from pg_roles where rolname = 'obs_writer') then
        grant select, insert, update, delete on concept_description to obs_writer;
    end if;
    if exists (select from pg_roles where rolname = 'obs_reader') then
        grant select on analysis.concept_descriptions to obs_reader;
    end if;
end $$;
