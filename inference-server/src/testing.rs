//! What the tests and benches of this repository reach: item by item, in modules named as the real
//! ones.
//!
//! Nothing else may use it, and nothing is promised: it exists so that every other module can be
//! private to the crate and the compiler finds dead code.

pub mod device {
    pub use crate::device::{DeviceChoice, OpenDevice, Precision, open};
}

pub mod error {
    pub use crate::error::Error;
}

pub mod generation {
    pub use crate::generation::chat_template::{ChatTemplate, Message};
    pub use crate::generation::constraint::Constraint;
    pub use crate::generation::engine::EngineLimits;
    pub use crate::generation::sampler::{Sampler, SamplingParams};
    pub use crate::generation::sequence::{Event, Request};
    pub use crate::generation::stop_strings::StopStrings;
    pub use crate::generation::{GenerationProfile, Generator};
}

pub mod kernels {
    pub use crate::kernels::bf16::Unit;
    #[cfg(feature = "cuda")]
    pub use crate::kernels::cuda::CudaGpu;
    pub use crate::kernels::gpu::encoder_tiles::{Tiles, queries};
    pub use crate::kernels::gpu::{
        Address, Argument, Download, Element, Entry, GemmOperands, GemmShape, Gpu, GpuError, Kernel, Memory,
        Source,
    };
    pub use crate::kernels::isa::Isa;
    pub use crate::kernels::matrix::Matrix;
}

pub mod metrics {
    pub use crate::metrics::Metrics;
}

pub mod models {
    pub use crate::models::checkpoint::encoder_config::EncoderConfig;
    pub use crate::models::decoder::config::DecoderConfig;
    pub use crate::models::decoder::cpu::CpuDecoder;
    pub use crate::models::decoder::gpu::GpuDecoder;
    pub use crate::models::decoder::source::{GgufWeights, Source};
    pub use crate::models::decoder::{LanguageModel, StepPiece};
    pub use crate::models::encoder::backbone::Backbone;
    pub use crate::models::encoder::gpu::GpuEncoder;
    pub use crate::models::gguf::Gguf;
    pub use crate::models::load_progress::LoadProgress;
    pub use crate::models::weights::Weights;
    pub use crate::models::{ComputeError, Extras, Model, ModelInfo, Pooling, RowOutput, Task};
}

pub mod registry {
    pub use crate::registry::Registry;
    pub use crate::registry::load::load;
    pub use crate::registry::loaded::{LoadedModel, Network};
    pub use crate::registry::plan::ServePlan;
    pub use crate::registry::warm_up::warm_up;
}

pub mod scheduler {
    pub use crate::scheduler::admission::{Admission, Budget, Limits};
    pub use crate::scheduler::queue::{Priority, Queue, Ticket, Work, WorkSource};
}

pub mod text {
    pub use crate::text::tokenizer::{TextTokenizer, Truncation};
}
