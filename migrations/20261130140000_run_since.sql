-- How recent an advertisement is, is the day of its collection where that is known; for one that was imported without
-- it, the day of its publication; and only where neither is known, the time at which this database heard of it. An old
-- file imported today is not new.
create or replace function covered_sightings(portals text[], countries text[], since timestamptz, most bigint)
returns setof sighting language sql stable as $$
    select s.* from sighting s
    where (cardinality($1) = 0 or s.portal = any ($1))
      and (cardinality($2) = 0 or s.country = any ($2))
      and ($3 is null or coalesce(s.last_collected, (s.posted_date + 1)::timestamp at time zone 'utc', s.last_seen) >= $3)
      and ($4 = 0 or s.job_id in (
          select m.job_id from sighting m
          where (cardinality($1) = 0 or m.portal = any ($1))
            and (cardinality($2) = 0 or m.country = any ($2))
            and ($3 is null
                or coalesce(m.last_collected, (m.posted_date + 1)::timestamp at time zone 'utc', m.last_seen) >= $3)
          group by m.job_id order by m.job_id limit nullif($4, 0)))
$$;
