//! Ages as the portals print them, relative to the simulator's clock.
//!
//! The simulator's clock is fixed, and each country counts days by its own offset from UTC.

use chrono::{DateTime, NaiveDate, Timelike, Utc};

use super::{rng::Rng, site::Country};

/// Days after which the portals stop counting ("Hace más de 30 días").
const COUNTED_DAYS: i64 = 30;

/// Day of a moment in a country.
pub(crate) fn local_day(moment: DateTime<Utc>, country: Country) -> NaiveDate {
    moment.with_timezone(&country.offset()).date_naive()
}

/// A moment `days` before now, always on that day of the country's calendar; on today's, some hours
/// ago.
pub(crate) fn moment_before(
    now: DateTime<Utc>,
    days: usize,
    country: Country,
    rng: &mut Rng,
) -> DateTime<Utc> {
    let hour = now.with_timezone(&country.offset()).hour() as usize;
    // Not more than have passed since midnight there: the day of publication must stay today.
    let hours = if hour == 0 { 0 } else { rng.between(1, hour) };
    // Days of 24 hours: offsets are fixed, so no change of clocks lies in between.
    now - chrono::Duration::hours((days * 24) as i64 + if days == 0 { hours as i64 } else { 0 })
}

/// "Hace 3 horas", "Ayer", "Hace 2 días": hours only for what appeared on the same day of the
/// country, so that the printed age always leads back to the day of publication. `blank` separates
/// the words.
pub(crate) fn age(posted: DateTime<Utc>, now: DateTime<Utc>, country: Country, blank: &str) -> String {
    let days = (local_day(now, country) - local_day(posted, country)).num_days();
    match days {
        // The clock can be set back, so a date of publication may lie in the future.
        ..=0 => match (now - posted).num_hours() {
            ..=0 => "Hoy".to_owned(),
            1 => format!("Hace{blank}1{blank}hora"),
            hours => format!("Hace{blank}{hours}{blank}horas"),
        },
        1 => "Ayer".to_owned(),
        2..COUNTED_DAYS => format!("Hace{blank}{days}{blank}días"),
        _ => "Hace más de 30 días".to_owned(),
    }
}

/// Date and time of an HTTP header (RFC 9110, section 5.6.7).
pub(crate) fn http_date(moment: DateTime<Utc>) -> String {
    moment.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_lead_back_to_the_day() {
        let now: DateTime<Utc> = "2026-03-01T03:30:00Z".parse().unwrap();
        let check = |posted: &str, country, expected: &str| {
            assert_eq!(age(posted.parse().unwrap(), now, country, "  "), expected, "{posted}");
        };
        // In Bogotá it is 22:30 of 28 February, in Buenos Aires 00:30 of 1 March.
        check("2026-03-01T03:00:00Z", Country::Co, "Hoy");
        check("2026-03-01T02:10:00Z", Country::Co, "Hace  1  hora");
        check("2026-02-28T20:00:00Z", Country::Co, "Hace  7  horas");
        check("2026-02-28T20:00:00Z", Country::Ar, "Ayer");
        check("2026-02-26T20:00:00Z", Country::Co, "Hace  2  días");
        check("2026-01-10T20:00:00Z", Country::Mx, "Hace más de 30 días");
        check("2026-03-02T20:00:00Z", Country::Mx, "Hoy");
        assert_eq!(http_date(now), "Sun, 01 Mar 2026 03:30:00 GMT");
    }

    #[test]
    fn moments_stand_on_their_day() {
        for hour in 0..24 {
            let now: DateTime<Utc> = format!("2026-11-20T{hour:02}:15:00Z").parse().unwrap();
            for country in Country::ALL {
                for days in 0..5 {
                    let moment = moment_before(now, days, country, &mut Rng::new(&[hour, days as u64]));
                    let expected = local_day(now, country) - chrono::Duration::days(days as i64);
                    assert_eq!(local_day(moment, country), expected, "{now} {country:?} {days}");
                }
            }
        }
    }
}
