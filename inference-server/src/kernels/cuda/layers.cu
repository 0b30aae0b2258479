// Encoder kernels between the matrix products: embedding, layer norm, activation, pooling.
//
// WIDTH is the width of a hidden state, a multiple of VECTOR. A row is computed by itself, in an
// order that depends on nothing else, so its bits are the same in any batch.

#define VECTORS (WIDTH / VECTOR)
// Vectors of a row that one lane of a warp holds.
#define HELD ((VECTORS + 31) / 32)

// Layer norm (Ba et al. 2016, arXiv:1607.06450) of the row that a warp holds, in two passes over
// registers.
__device__ __forceinline__ void normalise(
    float (&x)[HELD][VECTOR], const float* scale, const float* shift, float epsilon, element* to) {
    const int lane = threadIdx.x % 32;
    float sum = 0;
#pragma unroll
    for (int held = 0; held < HELD; held++)
#pragma unroll
        for (int i = 0; i < VECTOR; i++) sum += x[held][i];
    const float mean = warp_sum(sum) / WIDTH;
    float squares = 0;
#pragma unroll
    for (int held = 0; held < HELD; held++) {
        if (lane + 32 * held >= VECTORS) continue;
#pragma unroll
        for (int i = 0; i < VECTOR; i++) squares += (x[held][i] - mean) * (x[held][i] - mean);
    }
    const float inverse = 1.0f / sqrtf(warp_sum(squares) / WIDTH + epsilon);
#pragma unroll
    for (int held = 0; held < HELD; held++) {
        const int vector = lane + 32 * held;
        if (vector >= VECTORS) continue;
        float scales[VECTOR], shifts[VECTOR];
        load_floats(scale + vector * VECTOR, scales);
        load_floats(shift + vector * VECTOR, shifts);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) x[held][i] = (x[held][i] - mean) * inverse * scales[i] + shifts[i];
        store(to + vector * VECTOR, x[held]);
    }
}

// Row r is the layer norm of words[ids[r]] + positions[places[r]]. One warp per row.
extern "C" __global__ void __launch_bounds__(128) embed(
    const unsigned* ids, const unsigned* places, unsigned rows, const element* words, const float* positions,
    const float* scale, const float* shift, float epsilon, element* to) {
    const unsigned row = blockIdx.x * 4 + threadIdx.x / 32;
    if (row >= rows) return;
    const element* word = words + size_t(ids[row]) * WIDTH;
    const float* position = positions + size_t(places[row]) * WIDTH;
    float x[HELD][VECTOR];
#pragma unroll
    for (int held = 0; held < HELD; held++) {
        const int vector = threadIdx.x % 32 + 32 * held;
        float added[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; i++) x[held][i] = added[i] = 0;
        if (vector < VECTORS) {
            load(word + vector * VECTOR, x[held]);
            load_floats(position + vector * VECTOR, added);
        }
#pragma unroll
        for (int i = 0; i < VECTOR; i++) x[held][i] += added[i];
    }
    normalise(x, scale, shift, epsilon, to + size_t(row) * WIDTH);
}

// Layer norm of every row. One warp per row.
extern "C" __global__ void __launch_bounds__(128) layer_norm(
    const element* from, unsigned rows, const float* scale, const float* shift, float epsilon, element* to) {
    const unsigned row = blockIdx.x * 4 + threadIdx.x / 32;
    if (row >= rows) return;
    float x[HELD][VECTOR];
#pragma unroll
    for (int held = 0; held < HELD; held++) {
        const int vector = threadIdx.x % 32 + 32 * held;
#pragma unroll
        for (int i = 0; i < VECTOR; i++) x[held][i] = 0;
        if (vector < VECTORS) load(from + size_t(row) * WIDTH + vector * VECTOR, x[held]);
    }
    normalise(x, scale, shift, epsilon, to + size_t(row) * WIDTH);
}

// The activation of every value, in place; `count` is a multiple of VECTOR.
extern "C" __global__ void __launch_bounds__(256) activate(element* values, size_t count) {
    const size_t stride = size_t(gridDim.x) * blockDim.x * VECTOR;
    for (size_t at = (size_t(blockIdx.x) * blockDim.x + threadIdx.x) * VECTOR; at < count; at += stride) {
        float x[VECTOR];
        load(values + at, x);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) x[i] = activated(x[i]);
        store(values + at, x);
    }
}

// Every value as float; `count` is a multiple of VECTOR.
extern "C" __global__ void __launch_bounds__(256) widen(const element* from, size_t count, float* to) {
    const size_t stride = size_t(gridDim.x) * blockDim.x * VECTOR;
    for (size_t at = (size_t(blockIdx.x) * blockDim.x + threadIdx.x) * VECTOR; at < count; at += stride) {
        float x[VECTOR];
        load(from + at, x);
        store_floats(to + at, x);
    }
}

// How the states of a text are pooled; the numbers are those of `pooling_number` in
// `models/encoder/gpu/kernels.rs`.
enum { MEAN, FIRST, LAST, LARGEST, MEAN_SQRT_LEN, WEIGHTED_MEAN };

// Vectors of a row that a block of `pool` sums, one per lane, and warps that take the rows of the
// text in turn.
#define POOLED 32
#define STRIPES 8

// One vector of floats per text: text t is the rows from starts[t] to starts[t + 1]. One block per
// text and POOLED vectors.
extern "C" __global__ void __launch_bounds__(256) pool(
    const element* from, const unsigned* starts, unsigned how, float* to) {
    __shared__ float sums[STRIPES][POOLED][VECTOR + 1];
    const unsigned start = starts[blockIdx.x], end = starts[blockIdx.x + 1];
    const float count = float(end - start);
    const int lane = threadIdx.x % 32, stripe = threadIdx.x / 32;
    const int vector = blockIdx.y * POOLED + lane;
    const unsigned first = how == LAST ? end - 1 : start;
    const unsigned stop = how == FIRST ? start + 1 : end;
    float sum[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; i++) sum[i] = how == LARGEST ? __int_as_float(0xff800000) : 0.0f;
    if (vector < VECTORS) {
#pragma unroll 4
        for (unsigned row = first + stripe; row < stop; row += STRIPES) {
            float x[VECTOR];
            load(from + size_t(row) * WIDTH + vector * VECTOR, x);
            const float weight = how == WEIGHTED_MEAN ? float(row - start + 1) : 1.0f;
#pragma unroll
            for (int i = 0; i < VECTOR; i++) {
                sum[i] = how == LARGEST ? fmaxf(sum[i], x[i]) : sum[i] + weight * x[i];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < VECTOR; i++) sums[stripe][lane][i] = sum[i];
    __syncthreads();
    if (stripe > 0 || vector >= VECTORS) return;
    for (int other = 1; other < STRIPES; other++) {
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            const float x = sums[other][lane][i];
            sum[i] = how == LARGEST ? fmaxf(sum[i], x) : sum[i] + x;
        }
    }
    float divisor = 1.0f;
    if (how == MEAN) divisor = count;
    if (how == MEAN_SQRT_LEN) divisor = sqrtf(count);
    if (how == WEIGHTED_MEAN) divisor = 0.5f * count * (count + 1.0f);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) sum[i] /= divisor;
    store_floats(to + size_t(blockIdx.x) * WIDTH + vector * VECTOR, sum);
}
