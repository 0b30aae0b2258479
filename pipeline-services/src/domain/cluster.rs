//! Names of clusters for people.
//!
//! A name is made of members alone, so that the same members in the same order always give the same
//! name; it says what is in a cluster and claims nothing more.

/// Skills that make a name. A choice, not tuned: what a legend has room for.
const WORDS: usize = 3;

/// A name from the members in descending order of demand: the first three that do not contain one
/// another, so that "SQL · SQL Server" does not happen.
pub(crate) fn name(members: &[&str]) -> String {
    let mut chosen: Vec<&str> = Vec::new();
    for member in members {
        let folded = member.to_lowercase();
        let repeats = chosen.iter().any(|other| {
            let other = other.to_lowercase();
            // Either way round, since the longer name may be the one asked for more.
            other.contains(&folded) || folded.contains(&other)
        });
        if !repeats {
            chosen.push(member);
        }
        if chosen.len() == WORDS {
            break;
        }
    }
    chosen.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names() {
        let check = |members: &[&str], expected| assert_eq!(name(members), expected);
        check(&["SQL", "SQL Server", "Oracle", "PostgreSQL", "MySQL"], "SQL · Oracle");
        check(&["React", "Vue", "Angular", "Svelte"], "React · Vue · Angular");
        check(&["Excel"], "Excel");
        check(&[], "");
    }
}
