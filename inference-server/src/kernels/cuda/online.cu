// FlashAttention: attention of 16 or more queries per warp to tiles of keys and values in shared
// memory.
//
// Softmax with online rescaling as in FlashAttention-2 (Dao 2023, arXiv:2307.08691; Dao et al.
// 2022, arXiv:2205.14135), on tensor cores. A row's result is made by the same operations in the
// same order whatever the other rows are.

// Keys of a tile. Two stages of keys and values for heads of 128 take 68 KiB of shared memory, so
// that three blocks fit a multiprocessor of an H100 (228 KiB).
#define KEYS 64
// The score of a masked key: −∞.
#define NEVER __int_as_float(0xff800000)
// Factor of scores: 1/√d unless SCORE_SCALE is given, times log2(e), as exponentials are powers of
// two.
#ifdef SCORE_SCALE
#define SCALE (1.4426950408889634f * SCORE_SCALE)
#else
#define SCALE (1.4426950408889634f * rsqrtf(float(HEAD)))
#endif

#if ELEMENT != 2

// Columns of a row in shared memory: whole mma tiles, and an odd number of vectors of 16 bytes from
// one row to the next, so that the eight rows of an ldmatrix fall into different banks.
#define PADDED ((HEAD + 15) / 16 * 16)
#define ROW (PADDED + VECTOR)
#define CHUNKS (PADDED / VECTOR)

// The state of a warp: BLOCKS blocks of 16 queries, their running maxima and sums, and unnormalised
// outputs. A lane holds two rows of each block, in the layout of mma.m16n8k16.
template <int BLOCKS>
struct Queries {
    unsigned query[BLOCKS][PADDED / 16][4];
    float out[BLOCKS][PADDED / 8][4];
    float largest[BLOCKS][2];
    float total[BLOCKS][2];

    __device__ __forceinline__ void begin(const element* rows) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
            largest[block][0] = largest[block][1] = NEVER;
            total[block][0] = total[block][1] = 0;
#pragma unroll
            for (int part = 0; part < PADDED / 8; part++)
#pragma unroll
                for (int i = 0; i < 4; i++) out[block][part][i] = 0;
            const element* at = rows + (block * 16 + lane % 16) * ROW + lane / 16 * 8;
#pragma unroll
            for (int part = 0; part < PADDED / 16; part++) load_matrices(query[block][part], at + part * 16);
        }
    }

    // Attends to a tile of `count` keys, 1 to KEYS. Rows up to the next multiple of 16 are read and
    // must be finite. If CAUSAL, the first query attends to `window` keys of which the last is at
    // `place`, each further one a key further.
    template <bool CAUSAL>
    __device__ __forceinline__ void visit(
        const element* keys, const element* values, int count, int place = 0, int window = 0) {
        const int lane = threadIdx.x % 32;
        float score[BLOCKS][KEYS / 8][4];
        const element* key = keys + (lane / 16 * 8 + lane % 8) * ROW + lane / 8 % 2 * 8;
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            if (step * 16 >= count) break;
#pragma unroll
            for (int block = 0; block < BLOCKS; block++)
#pragma unroll
                for (int i = 0; i < 4; i++) score[block][2 * step][i] = score[block][2 * step + 1][i] = 0;
#pragma unroll
            for (int part = 0; part < PADDED / 16; part++) {
                unsigned b[4];
                load_matrices(b, key + step * 16 * ROW + part * 16);
#pragma unroll
                for (int block = 0; block < BLOCKS; block++) {
                    multiply(score[block][2 * step], query[block][part], b[0], b[1]);
                    multiply(score[block][2 * step + 1], query[block][part], b[2], b[3]);
                }
            }
            if (CAUSAL || step * 16 + 16 > count) {
#pragma unroll
                for (int block = 0; block < BLOCKS; block++)
#pragma unroll
                    for (int half = 0; half < 2; half++)
#pragma unroll
                        for (int i = 0; i < 4; i++) {
                            const int column = step * 16 + half * 8 + lane % 4 * 2 + i % 2;
                            const int last = place + block * 16 + i / 2 * 8 + lane / 4;
                            const bool hidden = CAUSAL && (column > last || column <= last - window);
                            if (column >= count || hidden) score[block][2 * step + half][i] = NEVER;
                        }
            }
        }
        float offset[BLOCKS][2];
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
#pragma unroll
            for (int row = 0; row < 2; row++) {
                float most = largest[block][row];
#pragma unroll
                for (int step = 0; step < KEYS / 16; step++) {
                    if (step * 16 >= count) break;
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        const float* pair = score[block][2 * step + half] + 2 * row;
                        most = fmaxf(most, fmaxf(pair[0], pair[1]));
                    }
                }
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
                // A query that has attended to no key yet has no maximum: −∞ − −∞ would be NaN.
                const bool blind = CAUSAL && most == NEVER;
                const float shrink = blind ? 1.0f : power_of_two((largest[block][row] - most) * SCALE);
                largest[block][row] = most;
                offset[block][row] = blind ? 0.0f : most * SCALE;
                total[block][row] *= shrink;
#pragma unroll
                for (int part = 0; part < PADDED / 8; part++) {
                    out[block][part][2 * row] *= shrink;
                    out[block][part][2 * row + 1] *= shrink;
                }
            }
        }
        const element* value = values + (lane / 8 % 2 * 8 + lane % 8) * ROW + lane / 16 * 8;
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            if (step * 16 >= count) break;
            unsigned weight[BLOCKS][4];
#pragma unroll
            for (int block = 0; block < BLOCKS; block++)
#pragma unroll
                for (int half = 0; half < 2; half++)
#pragma unroll
                    for (int row = 0; row < 2; row++) {
                        const float* pair = score[block][2 * step + half] + 2 * row;
                        const float first = power_of_two(fmaf(pair[0], SCALE, -offset[block][row]));
                        const float second = power_of_two(fmaf(pair[1], SCALE, -offset[block][row]));
                        total[block][row] += first + second;
                        weight[block][2 * half + row] = pack(first, second);
                    }
#pragma unroll
            for (int part = 0; part < PADDED / 16; part++) {
                unsigned b[4];
                load_transposed(b, value + step * 16 * ROW + part * 16);
#pragma unroll
                for (int block = 0; block < BLOCKS; block++) {
                    multiply(out[block][2 * part], weight[block], b[0], b[1]);
                    multiply(out[block][2 * part + 1], weight[block], b[2], b[3]);
                }
            }
        }
    }

    // Normalises and writes the first `count` rows, `stride` apart, through shared memory that no
    // other warp uses, so that stores are coalesced.
    __device__ __forceinline__ void finish(element* rows, element* to, int stride, int count) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int block = 0; block < BLOCKS; block++)
#pragma unroll
            for (int row = 0; row < 2; row++) {
                float sum = total[block][row];
                sum += __shfl_xor_sync(0xffffffffu, sum, 1);
                sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                const float inverse = 1.0f / sum;
                element* at = rows + (block * 16 + row * 8 + lane / 4) * ROW + lane % 4 * 2;
#pragma unroll
                for (int part = 0; part < PADDED / 8; part++) {
                    const float* pair = out[block][part] + 2 * row;
                    *reinterpret_cast<unsigned*>(at + part * 8) = pack(pair[0] * inverse, pair[1] * inverse);
                }
            }
        __syncwarp();
        for (int index = lane; index < count * (HEAD / VECTOR); index += 32) {
            const int row = index / (HEAD / VECTOR), column = index % (HEAD / VECTOR) * VECTOR;
            *reinterpret_cast<uint4*>(to + size_t(row) * stride + column) =
                *reinterpret_cast<const uint4*>(rows + row * ROW + column);
        }
    }
};
#endif
