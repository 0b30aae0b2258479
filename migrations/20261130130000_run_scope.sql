-- What a run covers, in one place for every stage and for the report: sightings on one of the portals, in one of the
-- countries (empty lists mean all), last seen since a time (null means ever), and of the texts that match only the
-- first `most` in the order in which they were stored (0 means all).
create function covered_sightings(portals text[], countries text[], since timestamptz, most bigint)
returns setof sighting language sql stable as $$
    select s.* from sighting s
    where (cardinality($1) = 0 or s.portal = any ($1))
      and (cardinality($2) = 0 or s.country = any ($2))
      and ($3 is null or s.last_seen >= $3)
      and ($4 = 0 or s.job_id in (
          select m.job_id from sighting m
          where (cardinality($1) = 0 or m.portal = any ($1))
            and (cardinality($2) = 0 or m.country = any ($2))
            and ($3 is null or m.last_seen >= $3)
          group by m.job_id order by m.job_id limit nullif($4, 0)))
$$;
