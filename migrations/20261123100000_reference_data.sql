-- Countries and portals are data: a new one is a row, never a change of the schema.
create extension if not exists vector;

create table country (
    code char(2) primary key check (code ~ '^[A-Z]{2}$'),
    name text not null,
    time_zone text not null,
    currency char(3) not null,
    enabled boolean not null default false
);

insert into country (code, name, time_zone, currency) values
    ('AR', 'Argentina', 'America/Argentina/Buenos_Aires', 'ARS'),
    ('BO', 'Bolivia', 'America/La_Paz', 'BOB'),
    ('BR', 'Brasil', 'America/Sao_Paulo', 'BRL'),
    ('CL', 'Chile', 'America/Santiago', 'CLP'),
    ('CO', 'Colombia', 'America/Bogota', 'COP'),
    ('CR', 'Costa Rica', 'America/Costa_Rica', 'CRC'),
    ('CU', 'Cuba', 'America/Havana', 'CUP'),
    ('DO', 'República Dominicana', 'America/Santo_Domingo', 'DOP'),
    ('EC', 'Ecuador', 'America/Guayaquil', 'USD'),
    ('GT', 'Guatemala', 'America/Guatemala', 'GTQ'),
    ('HN', 'Honduras', 'America/Tegucigalpa', 'HNL'),
    ('MX', 'México', 'America/Mexico_City', 'MXN'),
    ('NI', 'Nicaragua', 'America/Managua', 'NIO'),
    ('PA', 'Panamá', 'America/Panama', 'PAB'),
    ('PE', 'Perú', 'America/Lima', 'PEN'),
    ('PR', 'Puerto Rico', 'America/Puerto_Rico', 'USD'),
    ('PY', 'Paraguay', 'America/Asuncion', 'PYG'),
    ('SV', 'El Salvador', 'America/El_Salvador', 'USD'),
    ('UY', 'Uruguay', 'America/Montevideo', 'UYU'),
    ('VE', 'Venezuela', 'America/Caracas', 'VES');

create table portal (
    name varchar(50) primary key check (name ~ '^[a-z0-9][a-z0-9_-]*$'),
    first_seen timestamptz not null default now()
);
