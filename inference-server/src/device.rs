//! Which device computes.

use std::str::FromStr;

use anyhow::{Result, bail};
use candle_core::Device;

use crate::kernels::bf16::Unit;

/// The operator's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device where the build and the machine have one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// This CUDA device, or an error.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ordinal = |text: &str| text.parse().ok().map(Self::Cuda);
        match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(ordinal),
        }
        .ok_or_else(|| "allowed are auto, cpu, cuda and cuda:N".to_owned())
    }
}

/// How weights and activations are held, by the models that have a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Precision {
    /// bf16 on a GPU, f32 on the CPU.
    #[default]
    Auto,
    /// 24 bits of significand.
    F32,
    /// 8 bits of significand and the range of f32; sums are f32.
    Bf16,
}

/// An open device and its name in messages ("cpu", "cuda:0").
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// The device.
    pub device: Device,
    /// Its name.
    pub name: String,
    /// How weights and activations are held there; never [`Precision::Auto`].
    pub precision: Precision,
}

impl OpenDevice {
    /// The same device with another precision.
    ///
    /// # Errors
    /// Where the device does not compute so.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self> {
        if self.device.is_cpu() && precision == Precision::Bf16 && Unit::detect().is_none() {
            bail!("precision bf16: this processor has neither AMX nor AVX-512 instructions for it, use f32");
        }
        if precision != Precision::Auto {
            self.precision = precision;
        }
        Ok(self)
    }
}

/// Opens the device; `Auto` falls back to the CPU and logs why.
///
/// # Errors
/// Where a CUDA device was asked for and cannot be had.
pub fn open(choice: DeviceChoice) -> Result<OpenDevice> {
    let cpu = || OpenDevice { device: Device::Cpu, name: "cpu".to_owned(), precision: Precision::F32 };
    match choice {
        DeviceChoice::Cpu => Ok(cpu()),
        DeviceChoice::Cuda(ordinal) => cuda(ordinal),
        DeviceChoice::Auto if cfg!(feature = "cuda") => Ok(cuda(0).unwrap_or_else(|error| {
            tracing::warn!(error.message = format!("{error:#}"), "no CUDA device, computing on the CPU");
            cpu()
        })),
        DeviceChoice::Auto => Ok(cpu()),
    }
}

fn cuda(ordinal: usize) -> Result<OpenDevice> {
    if !cfg!(feature = "cuda") {
        bail!(
            "device cuda:{ordinal}: this binary was built without CUDA; build with --features cuda or use --device cpu"
        );
    }
    if !driver_present() {
        bail!("device cuda:{ordinal}: the NVIDIA driver library libcuda was not found on this machine");
    }
    let device =
        Device::new_cuda(ordinal).map_err(|error| anyhow::anyhow!("device cuda:{ordinal}: {error}"))?;
    Ok(OpenDevice { device, name: format!("cuda:{ordinal}"), precision: Precision::F32 })
}

/// Whether libcuda can be loaded. Touching CUDA without it panics when the driver is loaded at run time.
#[cfg(feature = "cuda-dynamic-loading")]
#[allow(
    unsafe_code,
    reason = "cudarc marks its probe unsafe because loading a library runs its initialisers"
)]
fn driver_present() -> bool {
    // SAFETY: libcuda's initialisers have no preconditions, and CUDA itself would load the same library next.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// Linked at build time, the process would not have started without the driver.
#[cfg(not(feature = "cuda-dynamic-loading"))]
fn driver_present() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_parse() {
        fn check(text: &str, expected: Option<DeviceChoice>) {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
        check("auto", Some(DeviceChoice::Auto));
        check("cpu", Some(DeviceChoice::Cpu));
        check("cuda", Some(DeviceChoice::Cuda(0)));
        check("cuda:3", Some(DeviceChoice::Cuda(3)));
        check("cuda:x", None);
        check("gpu", None);
    }

    #[test]
    fn the_cpu_computes_in_bf16_where_it_can() {
        let with = |precision| open(DeviceChoice::Cpu).unwrap().with_precision(precision);
        assert_eq!(with(Precision::Auto).unwrap().precision, Precision::F32);
        assert_eq!(with(Precision::F32).unwrap().precision, Precision::F32);
        match (Unit::detect(), with(Precision::Bf16)) {
            (Some(_), device) => assert_eq!(device.unwrap().precision, Precision::Bf16),
            (None, device) => assert!(device.unwrap_err().to_string().contains("neither AMX nor")),
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_without_support_is_an_error() {
        let error = open(DeviceChoice::Cuda(0)).unwrap_err();
        assert!(error.to_string().contains("built without CUDA"), "{error}");
        assert_eq!(open(DeviceChoice::Auto).unwrap().name, "cpu");
    }
}
