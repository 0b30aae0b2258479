-- The day of an import is not the day on which an advertisement was collected, and often nobody knows that day:
-- `scraped_at` is empty then, and a sighting says from when to when it is known to have been seen. First and last
-- sighting are still the times at which this database heard of it.
alter table raw_jobs alter column scraped_at drop not null;
alter table sighting add column first_collected timestamptz, add column last_collected timestamptz;
alter table sighting add constraint sighting_collected
    check ((first_collected is null) = (last_collected is null) and first_collected <= last_collected);
-- What a run visited itself was collected when it was seen.
update sighting s set first_collected = first_seen, last_collected = last_seen
where exists (select from run where summary ? ('scrape ' || s.portal || '/' || s.country));
