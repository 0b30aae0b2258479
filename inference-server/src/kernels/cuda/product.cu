// GEMV and thin GEMM, y = x·Wᵀ for few rows of x, as in decode: bound by reading W once. With many
// rows quantised weights are dequantised (the last kernel here) and multiplied by the vendor's
// library.
//
// BITS is 0 for weights of the element's type, row by row, and 4 or 8 for integers of that many
// bits in tiles of 16 outputs and 32 inputs, in the order in which lanes load them; see
// `kernels::quant`, gpu_tiles.rs. A tile has a word for each of its outputs: a scale, and in the
// upper half, by SECOND, nothing (0), a minimum to subtract (1), or the scale of the last 16 inputs
// (2), both as f16. OFFSET is subtracted from each integer. Integers are exact as elements; their
// sums are scaled in float.
//
// An output is summed over the inputs in an order that does not depend on the number of rows: warp
// w of a block adds up the chunks w, w + 8, w + 16, … of CHUNK inputs, and the sums of the warps
// are added in order.

#define WARPS 8
#define OUTPUTS 16
#define TILE 32
#define CHUNK 64

// Epilogue of a product; the numbers are those of `models::decoder::gpu::linear`.
enum { AS_ELEMENTS, ADDED, GATED, AS_FLOATS };

struct Layer {
    const uint4* weights;
    const unsigned* scales;
    unsigned inputs, outputs;
};

// An f16 as float, by integer arithmetic: a conversion without a header of CUDA's. Infinities are
// not expected.
__device__ __forceinline__ float half_float(unsigned bits) {
    const unsigned magnitude = (bits & 0x7fffu) << 13;
    const float least = __uint_as_float(113u << 23);
    const float normal = __uint_as_float(magnitude + (112u << 23));
    const float subnormal = __uint_as_float(magnitude + (113u << 23)) - least;
    const float value = bits & 0x7c00u ? normal : subnormal;
    return __uint_as_float(__float_as_uint(value) | (bits & 0x8000u) << 16);
}

#if BITS != 0
// The integer at `index` of a word, as a float: placed in the low bits of 2^23, which is subtracted
// again.
__device__ __forceinline__ float integer(unsigned word, int index) {
#if BITS == 4
    const unsigned code = word >> (4 * index) & 15u;
#else
    const unsigned code = word >> (8 * index) & 255u;
#endif
    return __uint_as_float(0x4b000000u | code) - (8388608.0f + OFFSET);
}

// The integers of a lane: four of each half of the inputs of output lane / 4, and of output lane /
// 4 + 8.
struct Codes {
#if BITS == 4
    uint2 words;
    __device__ __forceinline__ unsigned of(int output) const { return output ? words.y : words.x; }
    __device__ __forceinline__ float at(int output, int half, int index) const {
        return integer(of(output), 4 * half + index);
    }
#else
    uint4 words;
    __device__ __forceinline__ float at(int output, int half, int index) const {
        const unsigned word = output ? (half ? words.w : words.z) : (half ? words.y : words.x);
        return integer(word, index);
    }
#endif
    __device__ __forceinline__ void read(const Layer& layer, size_t tile) {
        words = reinterpret_cast<const decltype(words)*>(layer.weights)[tile * 32 + threadIdx.x % 32];
    }
};
#endif

#if ELEMENT != 2

// Sums of a warp for 8 · COUNT rows, by tensor cores, in the layout of mma.m16n8k16.
template <int COUNT>
struct Sums {
    float sum[COUNT][4];

    __device__ __forceinline__ void begin() {
#pragma unroll
        for (int part = 0; part < COUNT; part++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[part][i] = 0;
    }

    // Adds the products of CHUNK inputs from `begin` on, for 16 outputs.
    __device__ __forceinline__ void visit(const Layer& layer, unsigned output, const element* rows, unsigned begin) {
        const unsigned lane = threadIdx.x % 32, low = lane / 4;
#if BITS == 0
        const element* weights = reinterpret_cast<const element*>(layer.weights);
        const uint4 nothing = make_uint4(0, 0, 0, 0);
        uint4 weight[2][2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const unsigned input = begin + half * 32 + lane % 4 * VECTOR;
#pragma unroll
            for (int row = 0; row < 2; row++) {
                const unsigned at = min(output + low + 8 * row, layer.outputs - 1);
                const element* from = weights + size_t(at) * layer.inputs + input;
                weight[half][row] = input < layer.inputs ? *reinterpret_cast<const uint4*>(from) : nothing;
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const unsigned input = begin + half * 32 + lane % 4 * VECTOR;
            const uint4 top = weight[half][0], bottom = weight[half][1];
            const unsigned first[4] = {top.x, bottom.x, top.y, bottom.y};
            const unsigned second[4] = {top.z, bottom.z, top.w, bottom.w};
#pragma unroll
            for (int part = 0; part < COUNT; part++) {
                const element* from = rows + size_t(part * 8 + low) * layer.inputs + input;
                const uint4 x = input < layer.inputs ? *reinterpret_cast<const uint4*>(from) : nothing;
                multiply(sum[part], first, x.x, x.y);
                multiply(sum[part], second, x.z, x.w);
            }
        }
#else
        const unsigned tiles = layer.inputs / TILE;
#pragma unroll
        for (int half = 0; half < CHUNK / TILE; half++) {
            const unsigned number = begin / TILE + half;
            if (number >= tiles) return;
            const size_t tile = size_t(output / OUTPUTS) * tiles + number;
            Codes codes;
            codes.read(layer, tile);
            const unsigned scales[2] = {layer.scales[tile * OUTPUTS + low], layer.scales[tile * OUTPUTS + low + 8]};
            const float scale[2] = {half_float(scales[0] & 0xffffu), half_float(scales[1] & 0xffffu)};
            const float other[2] = {half_float(scales[0] >> 16), half_float(scales[1] >> 16)};
            unsigned weight[2][4];
#pragma unroll
            for (int group = 0; group < 2; group++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    weight[group][i] = pack(codes.at(i % 2, group, i / 2 * 2), codes.at(i % 2, group, i / 2 * 2 + 1));
#pragma unroll
            for (int part = 0; part < COUNT; part++) {
                const element* from = rows + size_t(part * 8 + low) * layer.inputs + number * TILE + lane % 4 * 4;
                const uint2 x = *reinterpret_cast<const uint2*>(from);
                const uint2 y = *reinterpret_cast<const uint2*>(from + TILE / 2);
                float products[4] = {0, 0, 0, 0};
                multiply(products, weight[0], x.x, x.y);
#if SECOND == 2
                float others[4] = {0, 0, 0, 0};
                multiply(others, weight[1], y.x, y.y);
#else
                multiply(products, weight[1], y.x, y.y);
#endif
#pragma unroll
                for (int i = 0; i < 4; i++) sum[part][i] = fmaf(products[i], scale[i / 2], sum[part][i]);
#if SECOND == 2
#pragma unroll
                for (int i = 0; i < 4; i++) sum[part][i] = fmaf(others[i], other[i / 2], sum[part][i]);
#elif SECOND == 1
                // A minimum is multiplied by the sum of the inputs, which the tensor cores add up
                // too.
                const unsigned one = pack(1.0f, 1.0f);
                const unsigned ones[4] = {one, one, one, one};
                float inputs[4] = {0, 0, 0, 0};
                multiply(inputs, ones, x.x, x.y);
                multiply(inputs, ones, y.x, y.y);
#pragma unroll
                for (int i = 0; i < 4; i++) sum[part][i] = fmaf(inputs[i], -other[i / 2], sum[part][i]);
#endif
            }
        }
#endif
    }

    __device__ __forceinline__ void finish(float (&to)[8 * COUNT][OUTPUTS + 1]) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int part = 0; part < COUNT; part++)
#pragma unroll
            for (int i = 0; i < 4; i++) to[part * 8 + lane % 4 * 2 + i % 2][lane / 4 + i / 2 * 8] = sum[part][i];
    }
};

#else

// f32, without tensor cores: sums of a lane for 8 · COUNT rows and two outputs, over a quarter of
// the inputs.
template <int COUNT>
struct Sums {
    float sum[8 * COUNT][2];

    __device__ __forceinline__ void begin() {
#pragma unroll
        for (int row = 0; row < 8 * COUNT; row++) sum[row][0] = sum[row][1] = 0;
    }

    __device__ __forceinline__ void visit(const Layer& layer, unsigned output, const element* rows, unsigned begin) {
        const unsigned lane = threadIdx.x % 32, low = lane / 4;
#pragma unroll
        for (int half = 0; half < CHUNK / TILE; half++) {
            float weight[2][VECTOR];
#if BITS == 0
            const unsigned input = begin + half * TILE + lane % 4 * VECTOR, further = 4;
            if (input >= layer.inputs) return;
#pragma unroll
            for (int row = 0; row < 2; row++) {
                const unsigned at = min(output + low + 8 * row, layer.outputs - 1);
                load_floats(reinterpret_cast<const float*>(layer.weights) + size_t(at) * layer.inputs + input,
                            weight[row]);
            }
#else
            const unsigned tiles = layer.inputs / TILE, number = begin / TILE + half;
            if (number >= tiles) return;
            const size_t tile = size_t(output / OUTPUTS) * tiles + number;
            Codes codes;
            codes.read(layer, tile);
            const unsigned input = number * TILE + lane % 4 * 4, further = TILE / 2;
#pragma unroll
            for (int row = 0; row < 2; row++) {
                const unsigned scales = layer.scales[tile * OUTPUTS + low + 8 * row];
                const float scale = half_float(scales & 0xffffu), other = half_float(scales >> 16);
#pragma unroll
                for (int i = 0; i < VECTOR; i++) {
                    const float code = codes.at(row, i / 4, i % 4);
#if SECOND == 2
                    weight[row][i] = code * (i < 4 ? scale : other);
#elif SECOND == 1
                    weight[row][i] = fmaf(code, scale, -other);
#else
                    weight[row][i] = code * scale;
#endif
                }
            }
#endif
#pragma unroll
            for (int row = 0; row < 8 * COUNT; row++) {
                const element* from = rows + size_t(row) * layer.inputs + input;
#pragma unroll
                for (int i = 0; i < VECTOR; i++) {
                    const float x = from[i < 4 ? i : i - 4 + further];
                    sum[row][0] = fmaf(weight[0][i], x, sum[row][0]);
                    sum[row][1] = fmaf(weight[1][i], x, sum[row][1]);
                }
            }
        }
    }

    __device__ __forceinline__ void finish(float (&to)[8 * COUNT][OUTPUTS + 1]) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int row = 0; row < 8 * COUNT; row++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float x = sum[row][i];
                x += __shfl_xor_sync(0xffffffffu, x, 1);
                x += __shfl_xor_sync(0xffffffffu, x, 2);
                if (lane % 4 == 0) to[row][lane / 4 + 8 * i] = x;
            }
    }
};

#endif

// 16 outputs of 8 · COUNT rows with their epilogue. `stride` is the width of a row of the result.
// One block per 8 · COUNT rows and 16 outputs; the sums of its warps are added in shared memory.
template <int COUNT>
__device__ __forceinline__ void product(
    const Layer& layer, const element* x, unsigned rows, int outcome, void* to, unsigned stride) {
    __shared__ float sums[WARPS][8 * COUNT][OUTPUTS + 1];
    const unsigned first_row = blockIdx.x * 8 * COUNT, output = blockIdx.y * OUTPUTS;
    if (first_row >= rows) return;
    const unsigned warp = threadIdx.x / 32;
    Sums<COUNT> own;
    own.begin();
    for (unsigned begin = warp * CHUNK; begin < layer.inputs; begin += WARPS * CHUNK)
        own.visit(layer, output, x + size_t(first_row) * layer.inputs, begin);
    own.finish(sums[warp]);
    __syncthreads();
    const auto total = [&](unsigned row, unsigned at) {
        float sum = 0;
#pragma unroll
        for (int part = 0; part < WARPS; part++) sum += sums[part][row][at];
        return sum;
    };
    const unsigned together = outcome == GATED ? OUTPUTS / 2 : OUTPUTS;
    const unsigned valid = min(8u * COUNT, rows - first_row);
    for (unsigned index = threadIdx.x; index < valid * together; index += 32 * WARPS) {
        const unsigned row = index / together, at = index % together;
        float sum = total(row, at);
        unsigned column = output + at;
        if (column >= layer.outputs) continue;
        if (outcome == GATED) {
            sum = activated(sum) * total(row, at + OUTPUTS / 2);
            column = blockIdx.y * (OUTPUTS / 2) + at;
        }
        const size_t place = size_t(first_row + row) * stride + column;
        if (outcome == ADDED) {
            static_cast<float*>(to)[place] += sum;
        } else if (outcome == AS_FLOATS) {
            static_cast<float*>(to)[place] = sum;
        } else {
            store_one(static_cast<element*>(to) + place, sum);
        }
    }
}

#define PRODUCT(name, count)                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) name(                                                           \
        const uint4* weights, const unsigned* scales, unsigned inputs, unsigned outputs, const element* x,            \
        const unsigned* rows, int outcome, void* to, unsigned stride) {                                               \
        product<count>({weights, scales, inputs, outputs}, x, *rows, outcome, to, stride);                            \
    }

PRODUCT(multiply_8, 1)
PRODUCT(multiply_16, 2)
#if ELEMENT != 2
PRODUCT(multiply_32, 4)
PRODUCT(multiply_64, 8)
#endif

#if BITS != 0
// Dequantises a layer's weights to elements, row by row. One block per eight tiles, one warp per
// tile.
extern "C" __global__ void __launch_bounds__(256) dequantise(
    const uint4* weights, const unsigned* scales, unsigned inputs, unsigned outputs, element* to) {
    const unsigned tiles = inputs / TILE, lane = threadIdx.x % 32;
    const size_t tile = size_t(blockIdx.x) * WARPS + threadIdx.x / 32;
    if (tile >= size_t((outputs + OUTPUTS - 1) / OUTPUTS) * tiles) return;
    Codes codes;
    codes.read({weights, scales, inputs, outputs}, tile);
#pragma unroll
    for (int row = 0; row < 2; row++) {
        const unsigned at = lane / 4 + 8 * row, output = tile / tiles * OUTPUTS + at;
        if (output >= outputs) continue;
        const unsigned words = scales[tile * OUTPUTS + at];
        const float scale = half_float(words & 0xffffu), other = half_float(words >> 16);
        element* from = to + size_t(output) * inputs + tile % tiles * TILE + lane % 4 * 4;
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            const float code = codes.at(row, i / 4, i % 4);
#if SECOND == 2
            const float x = code * (i < 4 ? scale : other);
#elif SECOND == 1
            const float x = fmaf(code, scale, -other);
#else
            const float x = code * scale;
#endif
            store_one(from + i / 4 * (TILE / 2) + i % 4, x);
        }
    }
}
#endif
