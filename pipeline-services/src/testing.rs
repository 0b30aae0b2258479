//! What tests, examples and fuzz targets of this workspace reach; no part of the interface.
//!
//! The submodules mirror the crate's own, item by item: what is not listed here is private, and
//! what nothing else uses is reported by the compiler as dead.

/// `crate::cleaning`.
pub mod cleaning {
    pub use crate::cleaning::clean;
}

/// `crate::domain`.
pub mod domain {
    /// `crate::domain::enhancement`.
    pub mod enhancement {
        pub use crate::domain::enhancement::{Enhancement, Rejection};
    }

    /// `crate::domain::posting`.
    pub mod posting {
        pub use crate::domain::posting::{Field, NewPosting};
    }

    /// `crate::domain::run`.
    pub mod run {
        pub use crate::domain::run::{RunState, StageName, StageState};

        /// `crate::domain::run::facts`.
        pub mod facts {
            pub use crate::domain::run::facts::AnalyzeFacts;
        }
    }

    /// `crate::domain::skill`.
    pub mod skill {
        pub use crate::domain::skill::{Citation, EnhancedSkill, Maker, Makers, Mention, Method, SkillKind};
    }

    /// `crate::domain::taxonomy`.
    pub mod taxonomy {
        pub use crate::domain::taxonomy::Occupation;
    }
}

/// `crate::enhancer`.
pub mod enhancer {
    /// `crate::enhancer::rules`.
    pub mod rules {
        pub use crate::enhancer::rules::enhance;
    }
}

/// `crate::export`.
pub mod export {
    pub use crate::export::{Format, Subject, write};
}

/// `crate::extractor`.
pub mod extractor {
    pub use crate::extractor::{Extractor, Patterns, names};

    /// `crate::extractor::oneshot`.
    pub mod oneshot {
        pub use crate::extractor::oneshot::{answer, parse_document, personal_data, spans_answer};
    }
}

/// `crate::inference`.
pub mod inference {
    pub use crate::inference::{InferenceClient, Options};
}

/// `crate::intake`.
pub mod intake {
    pub use crate::intake::{parse, prepare, store_batch};

    /// `crate::intake::again`.
    pub mod again {
        pub use crate::intake::again::{Scrubbing, scrub_stored};
    }
}

/// `crate::lexicon`.
pub mod lexicon {
    pub use crate::lexicon::Lexicon;
}

/// `crate::orchestrator`.
pub mod orchestrator {
    pub use crate::orchestrator::Orchestrator;
}

/// `crate::privacy`.
pub mod privacy {
    pub use crate::privacy::{scrub, scrub_url};
}

/// `crate::reporter`.
pub mod reporter {
    pub use crate::reporter::{FormatSet, ReportDocument, TypesetCommand, render};

    /// `crate::reporter::document`.
    pub mod document {
        pub use crate::reporter::document::{Filter, Notice};
    }

    /// `crate::reporter::stage`.
    pub mod stage {
        pub use crate::reporter::stage::{ReporterStage, Settings};
    }
}

/// `crate::scraper`.
pub mod scraper {
    pub use crate::scraper::{PRODUCT, Portal, Robots};
}

/// `crate::spreadsheet`.
pub mod spreadsheet {
    pub use crate::spreadsheet::Dialect;
}

/// `crate::stage`.
pub mod stage {
    pub use crate::stage::{Checkpoints, Dependency, Effect, Outcome, Plan, Stage, StageError};
}

/// `crate::store`.
pub mod store {
    pub use crate::store::{
        PgListener, PgPool, SqlResult, is_transient, migrate, needed_schema_version, open, require_schema,
        schema_version,
    };

    /// `crate::store::analyses`.
    pub mod analyses {
        pub use crate::store::analyses::{Cluster, Clustering, Point, replace};
    }

    /// `crate::store::countries`.
    pub mod countries {
        pub use crate::store::countries::{enable, enabled};
    }

    /// `crate::store::embeddings`.
    pub mod embeddings {
        pub use crate::store::embeddings::{ModelIdentity, activate, insert};
    }

    /// `crate::store::figures`.
    pub mod figures {
        pub use crate::store::figures::extent;
    }

    /// `crate::store::occupations`.
    pub mod occupations {
        pub use crate::store::occupations::replace;
    }

    /// `crate::store::postings`.
    pub mod postings {
        pub use crate::store::postings::Stored;
    }

    /// `crate::store::runs`.
    pub mod runs {
        pub use crate::store::runs::{
            Run, RunOptions, Scope, StageProgress, cancel, coverage, create, get, progress, reopen,
        };
    }

    /// `crate::store::skills`.
    pub mod skills {
        pub use crate::store::skills::{Finished, replace_extracted, top};
    }

    /// `crate::store::tasks`.
    pub mod tasks {
        pub use crate::store::tasks::{
            CHANNEL, LOSSES, NewTask, Subject, Task, claim, create, fail, finish, heartbeat, reap, release,
            retry,
        };
    }
}

/// `crate::taxonomy`.
pub mod taxonomy {
    pub use crate::taxonomy::Taxonomy;

    /// `crate::taxonomy::esco`.
    pub mod esco {
        pub use crate::taxonomy::esco::read;
    }
}

/// `crate::worker`.
pub mod worker {
    pub use crate::worker::{ModuleConfig, Timing, Worker};
}
