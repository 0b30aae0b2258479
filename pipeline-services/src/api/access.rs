//! Who may call what: the scopes of callers and those that the methods need.
//!
//! One table holds every method of the package. A caller's rights are a set of scopes, read from
//! the clients file and printed by the same names.

use std::{collections::BTreeSet, fmt, str::FromStr};

use anyhow::{Result, ensure};
use observatory_server::access::{self, Grants};
use serde::Deserialize;

/// A permission of a caller, from the least on: the gate logs every call above `Read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// Look at runs, advertisements, figures and reports, export them, and have a text read.
    Read,
    /// Store advertisements.
    Import,
    /// Start, stop and repeat runs, have stages work, and build reports.
    Run,
    /// Everything, with what changes the stored for all: countries, taxonomies, removal of personal
    /// data, cleaning up.
    Admin,
}

/// Every scope.
const SCOPES: [Scope; 4] = [Scope::Read, Scope::Import, Scope::Run, Scope::Admin];

impl Scope {
    /// Name in files and messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Import => "import",
            Self::Run => "run",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = SCOPES.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| {
            format!("unknown scope `{text}`; known are {}", SCOPES.map(Scope::name).join(", "))
        })
    }
}

/// The entry of a client in the clients file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rights {
    /// Its permissions.
    // Absent is empty, so that `check` refuses it with the list of scopes.
    #[serde(default)]
    scopes: BTreeSet<Scope>,
    /// Calls it may make in a minute.
    #[serde(default)]
    calls_per_minute: Option<u32>,
}

impl Rights {
    /// Rights to these scopes, without a quota.
    pub(crate) fn to(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self { scopes: scopes.into_iter().collect(), calls_per_minute: None }
    }

    /// Returns whether they cover a scope.
    pub(crate) fn allow(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.scopes.iter().map(|scope| scope.name()).collect();
        formatter.write_str(&names.join(", "))
    }
}

impl Grants for Rights {
    const QUOTA: &'static str = "calls_per_minute";

    fn per_minute(&self) -> Option<u32> {
        self.calls_per_minute
    }

    fn check(&self) -> Result<()> {
        ensure!(
            !self.scopes.is_empty(),
            "scopes is missing; known are {}",
            SCOPES.map(Scope::name).join(", ")
        );
        Ok(())
    }

    fn all() -> Self {
        Self::to([Scope::Admin])
    }
}

/// The rule for callers.
pub(crate) type Access = access::Access<Rights>;

/// A method of this package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Method {
    /// The scope that it needs.
    pub scope: Scope,
    /// True if it goes on for as long as its caller likes, or computes for long.
    pub lasts: bool,
}

/// Package of the services.
const PACKAGE: &str = "/observatory.pipeline.v1.";

/// The method at a path of HTTP/2; `None` where it is none of the package's.
pub(crate) fn method(path: &str) -> Option<Method> {
    let (service, method) = path.strip_prefix(PACKAGE)?.split_once('/')?;
    let (scope, lasts) = match (service, method) {
        ("OrchestratorService", "GetRun" | "ListRuns" | "GetStatus") => (Scope::Read, false),
        ("OrchestratorService", "WatchRun") => (Scope::Read, true),
        ("OrchestratorService", "StartRun" | "CancelRun" | "RetryRun") => (Scope::Run, false),
        ("StageService", "ValidateInput" | "GetMetrics") => (Scope::Read, false),
        ("StageService", "Process") => (Scope::Run, true),
        ("StageService", "Cleanup") => (Scope::Admin, true),
        ("ExtractorService", "Extract") => (Scope::Read, true),
        ("PostingService", "ListPostings" | "GetPosting" | "ListCountries") => (Scope::Read, false),
        ("PostingService", "ImportPostings") => (Scope::Import, true),
        ("PostingService", "EnableCountry") => (Scope::Admin, false),
        ("PrivacyService", "Scrub") => (Scope::Admin, true),
        ("TaxonomyService", "ListTaxonomies" | "GetConcept" | "Link") => (Scope::Read, false),
        ("TaxonomyService", "DiffTaxonomies") => (Scope::Read, true),
        ("TaxonomyService", "ImportTaxonomy" | "EmbedTaxonomy") => (Scope::Admin, true),
        ("TaxonomyService", "ActivateTaxonomy") => (Scope::Admin, false),
        ("InsightService", "SearchSkills" | "TopSkills" | "ListSkillAds" | "ListClusters" | "GetCluster") => {
            (Scope::Read, false)
        }
        ("ReportService", "ListReports") => (Scope::Read, false),
        ("ReportService", "DownloadReport") => (Scope::Read, true),
        ("ReportService", "BuildReport") => (Scope::Run, true),
        ("ReviewService", "ListFinds" | "ListVerdicts") => (Scope::Read, false),
        ("ReviewService", "Judge") => (Scope::Admin, false),
        ("ExportService", "Export") => (Scope::Read, true),
        _ => return None,
    };
    Some(Method { scope, lasts })
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn every_method_says_what_it_needs() {
        let set = prost_types::FileDescriptorSet::decode(observatory_proto::FILE_DESCRIPTOR_SET).unwrap();
        let files = set.file.iter().filter(|file| file.package() == "observatory.pipeline.v1");
        let methods = files.flat_map(|file| &file.service).flat_map(|service| {
            service.method.iter().map(move |method| (service.name().to_owned(), method.clone()))
        });
        let mut found = 0;
        for (service, described) in methods {
            let path = format!("{PACKAGE}{service}/{}", described.name());
            let known = method(&path).unwrap_or_else(|| panic!("{path} is in no scope"));
            let streams = described.client_streaming() || described.server_streaming();
            assert!(known.lasts || !streams, "{path} streams and lasts");
            found += 1;
        }
        assert!(found > 25, "{found}");
        assert_eq!(method("/observatory.pipeline.v1.ReportService/Other"), None);
        assert_eq!(method("/observatory.inference.v1.ModelsService/LoadModel"), None);
    }

    #[test]
    fn admin_is_every_scope() {
        let (reader, admin) = (Rights::to([Scope::Read]), Rights::all());
        assert!(reader.allow(Scope::Read) && !reader.allow(Scope::Import));
        assert!(SCOPES.into_iter().all(|scope| admin.allow(scope)));
        assert_eq!(Rights::to([Scope::Run, Scope::Read]).to_string(), "read, run");
    }

    #[test]
    fn entries_name_their_scopes() {
        let check = |text: &str, part: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            let digest = hex::encode([7; 32]);
            std::fs::write(file.path(), format!("[lab]\ntoken_sha256 = \"{digest}\"\n{text}")).unwrap();
            let access = Access::new(Some(file.path()), None, None);
            let said = access.map_or_else(|error| format!("{error:#}"), |_| "accepted".to_owned());
            assert!(said.contains(part), "no {part:?} in {said}");
        };
        check("scopes = [\"read\", \"import\"]\ncalls_per_minute = 60\n", "accepted");
        check("", "[lab]: scopes is missing; known are read, import, run, admin");
        check(
            "scopes = [\"write\"]\n",
            "unknown variant `write`, expected one of `read`, `import`, `run`, `admin`",
        );
        check("scopes = [\"read\"]\ncalls_per_minute = 0\n", "invalid calls_per_minute `0`");
        check("scopes = [\"read\"]\nadmin = true\n", "unknown field `admin`");
    }
}
