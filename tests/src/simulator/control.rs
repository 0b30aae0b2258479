//! The simulator's own addresses under `/_simulator/`, for a caller in another process.
//!
//! - `GET stats`, `GET requests`: the log, JSON
//! - `GET truth`: what a reader should deliver of the wave being served, JSON Lines
//! - `POST wave`, `POST clock`, `POST faults`: the new wave, the new time, or the faults from now
//!   on, one a line

use chrono::{DateTime, Utc};

use super::{
    fault::{Fault, Faults},
    page::Answer,
    state::Shared,
    truth,
};

pub(super) fn answer(shared: &Shared, method: &str, call: &str, body: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    match (method, call) {
        ("GET", "stats") => json(&shared.live().log.stats()),
        ("GET", "requests") => json(&shared.live().log.requests()),
        ("GET", "truth") => lines(shared),
        ("POST", "wave") => done(set_wave(shared, text)),
        ("POST", "clock") => done(set_clock(shared, text)),
        ("POST", "faults") => done(set_faults(shared, text)),
        _ => Answer::text(404, format!("no {method} /_simulator/{call}")),
    }
}

fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_value(value) {
        Ok(value) => Answer::json(200, &value),
        Err(error) => Answer::text(500, error.to_string()),
    }
}

fn lines(shared: &Shared) -> Answer {
    // The lock is released at once: the truth of a large catalogue takes a while to write.
    let wave = shared.live().wave;
    let mut text = Vec::new();
    match truth::write_truth(&truth::of_wave(&shared.catalog, wave), &mut text) {
        Ok(()) => {
            let mut answer = Answer::text(200, String::from_utf8_lossy(&text).into_owned());
            answer.content_type = "application/x-ndjson";
            answer
        }
        Err(error) => Answer::text(500, error.to_string()),
    }
}

fn done(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => Answer::text(200, "ok".to_owned()),
        Err(message) => Answer::text(400, message),
    }
}

/// Serves another wave from now on.
pub(super) fn set_wave(shared: &Shared, text: &str) -> Result<(), String> {
    match text.parse() {
        Ok(wave) if (1..=shared.waves).contains(&wave) => {
            shared.live().wave = wave;
            Ok(())
        }
        _ => Err(format!("wave `{text}`; allowed are 1 to {}", shared.waves)),
    }
}

fn set_clock(shared: &Shared, text: &str) -> Result<(), String> {
    let clock: DateTime<Utc> =
        text.parse().map_err(|_| format!("clock `{text}` is not a time such as 2026-11-20T20:00:00Z"))?;
    shared.live().clock = clock;
    Ok(())
}

fn set_faults(shared: &Shared, text: &str) -> Result<(), String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let faults: Result<Vec<Fault>, _> = lines.map(str::parse::<Fault>).collect();
    // All or none: a faulty line must not leave half of the list in force.
    shared.live().faults = Faults::new(faults.map_err(|error| error.to_string())?);
    Ok(())
}
