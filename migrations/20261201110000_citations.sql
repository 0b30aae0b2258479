-- Each enhanced skill cites the piece of its posting on which it rests: code points of a field, half-open. An explicit one
-- cites its mention, an implicit one what it follows from. Rows of earlier versions cite nothing.
alter table enhanced_skills
    add column cited_field text check (cited_field in ('title', 'description', 'requirements')),
    add column cited_start integer check (cited_start >= 0),
    add column cited_end integer,
    add check (num_nulls(cited_field, cited_start, cited_end) in (0, 3) and cited_end > cited_start);

-- How the rows came about. Of the enhancer: who answered, who was passed over and why, and what of an answer was rejected.
alter table posting_stage add column record jsonb not null default '{}';
