// Activations in float: GELU, its tanh approximation, ReLU, SiLU.

// erf. For elements of 16 bits by Abramowitz and Stegun 1964, 7.1.26: within 4e-7 in float, without
// a branch.
__device__ __forceinline__ float erf_of(float x) {
#if ELEMENT == 2
    return erff(x);
#else
    const float positive = fabsf(x);
    const float t = reciprocal(fmaf(0.3275911f, positive, 1.0f));
    const float decay = power_of_two(x * x * -1.4426950408889634f);
    float sum = fmaf(1.061405429f, t, -1.453152027f);
    sum = fmaf(sum, t, 1.421413741f);
    sum = fmaf(sum, t, -0.284496736f);
    sum = fmaf(sum, t, 0.254829592f);
    return copysignf(1.0f - sum * t * decay, x);
#endif
}

// ACTIVATION is 0 for GELU, 1 for its tanh approximation, 2 for ReLU, 3 for SiLU; see
// `kernels::gpu::activation_number`.
__device__ __forceinline__ float activated(float x) {
#if ACTIVATION == 0
    return 0.5f * x * (1.0f + erf_of(x * 0.70710678118654752f));
#elif ACTIVATION == 1
    return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
#elif ACTIVATION == 2
    return fmaxf(x, 0.0f);
#else
    return x / (1.0f + expf(-x));
#endif
}
