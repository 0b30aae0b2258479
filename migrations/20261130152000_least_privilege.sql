-- What a running pipeline needs beyond rows is done by functions of the owner, so that it may run as obs_writer.
alter function ensure_embedding_index(smallint) security definer set search_path = public, pg_temp;
alter function enable_country(text) security definer set search_path = public, pg_temp;
revoke execute on function ensure_embedding_index(smallint), enable_country(text) from public;
do $$
declare
    wanted text;
begin
    foreach wanted in array array['obs_owner', 'obs_writer'] loop
        if exists (select from pg_roles where rolname = wanted) then
            execute format('grant execute on function ensure_embedding_index(smallint), enable_country(text) to %I', wanted);
        end if;
    end loop;
end $$;
