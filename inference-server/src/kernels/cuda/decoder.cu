// Decoder kernels between the matrix products: embedding, RMSNorm, RoPE with the write to the KV
// cache, SwiGLU or GeGLU, and paged attention (Kwon et al. 2023, arXiv:2309.06180), by split-K for
// decode and by tiles of queries for prefill.
//
// Hidden states are float. HEAD is the size of a head, a multiple of VECTOR; GROUP query heads
// share each of KV_HEADS KV heads (GQA). A row is a token of a step; its result depends on the
// token's own sequence alone.

#define QUERY_HEADS (KV_HEADS * GROUP)
// Columns of a row of `wide`: queries, keys and values of all heads.
#define WIDE ((QUERY_HEADS + 2 * KV_HEADS) * HEAD)
// Tokens of a KV block; `kernels::paged::BLOCK_TOKENS`.
#define BLOCK 32

// Offset of the key, or value, of a token and KV head in the cache of a layer, by the block table
// of its sequence.
__device__ __forceinline__ size_t place_of(const unsigned* blocks, unsigned token, unsigned head) {
    return ((size_t(blocks[token / BLOCK]) * KV_HEADS + head) * BLOCK + token % BLOCK) * HEAD;
}

// Sum over the 256 threads of a block, always in the same order.
__device__ __forceinline__ float block_sum(float value) {
    __shared__ float sums[8];
    value = warp_sum(value);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < 8; warp++) sum += sums[warp];
    return sum;
}

__device__ __forceinline__ float inverse_root(float squares, unsigned width, float epsilon) {
    return 1.0f / sqrtf(squares / float(width) + epsilon);
}

// 1 / RMS of a row, in all 256 threads of a block.
__device__ __forceinline__ float inverse_norm(const float* from, unsigned width, float epsilon) {
    float squares = 0;
    for (unsigned at = threadIdx.x * VECTOR; at < width; at += 256 * VECTOR) {
        float x[VECTOR];
        load_floats(from + at, x);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) squares = fmaf(x[i], x[i], squares);
    }
    return inverse_root(block_sum(squares), width, epsilon);
}

// Token embeddings, scaled. One block per row.
extern "C" __global__ void __launch_bounds__(256) embed_tokens(
    const unsigned* ids, const unsigned* rows, const element* table, unsigned width, float scale, float* states) {
    if (blockIdx.x >= *rows) return;
    const element* word = table + size_t(ids[blockIdx.x]) * width;
    float* to = states + size_t(blockIdx.x) * width;
    for (unsigned at = threadIdx.x * VECTOR; at < width; at += 256 * VECTOR) {
        float x[VECTOR];
        load(word + at, x);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) x[i] *= scale;
        store_floats(to + at, x);
    }
}

// RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467) of rows of states, of those in `chosen`
// unless it is null. One block per row.
extern "C" __global__ void __launch_bounds__(256) normalise_rows(
    const float* states, const unsigned* chosen, const unsigned* rows, const float* scale, float epsilon, unsigned width,
    element* to) {
    if (blockIdx.x >= *rows) return;
    const unsigned row = chosen ? chosen[blockIdx.x] : blockIdx.x;
    const float* from = states + size_t(row) * width;
    const float inverse = inverse_norm(from, width, epsilon);
    for (unsigned at = threadIdx.x * VECTOR; at < width; at += 256 * VECTOR) {
        float x[VECTOR], scales[VECTOR];
        load_floats(from + at, x);
        load_floats(scale + at, scales);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) x[i] *= inverse * scales[i];
        store(to + size_t(blockIdx.x) * width + at, x);
    }
}

// Adds the RMSNorm of each row to the row's state. One block per row.
extern "C" __global__ void __launch_bounds__(256) add_normalised(
    const float* from, const unsigned* rows, const float* scale, float epsilon, unsigned width, float* states) {
    if (blockIdx.x >= *rows) return;
    from += size_t(blockIdx.x) * width;
    states += size_t(blockIdx.x) * width;
    const float inverse = inverse_norm(from, width, epsilon);
    for (unsigned at = threadIdx.x * VECTOR; at < width; at += 256 * VECTOR) {
        float x[VECTOR], scales[VECTOR], sum[VECTOR];
        load_floats(from + at, x);
        load_floats(scale + at, scales);
        load_floats(states + at, sum);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) sum[i] = fmaf(x[i] * inverse, scales[i], sum[i]);
        store_floats(states + at, sum);
    }
}

// Finishes queries, keys and values: adds the bias, if there is one; normalises each head of
// queries and keys, if they have norms; rotates their first 2 · half columns by the token's
// position (RoPE, Su et al. 2021, arXiv:2104.09864). Queries are written in place, keys and values
// to their KV blocks. One warp per head, one block per four heads of a row.
extern "C" __global__ void __launch_bounds__(128) rope_and_store_kv(
    element* wide, const unsigned* rows, const unsigned* positions, const unsigned* lists, const unsigned* blocks,
    const float* bias, const float* query_norm, const float* key_norm, float epsilon, const float* angles, unsigned half,
    element* keys, element* values) {
    __shared__ float heads[4][HEAD];
    const unsigned row = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned head = blockIdx.y * 4 + warp;
    if (row >= *rows || head >= QUERY_HEADS + 2 * KV_HEADS) return;
    element* at = wide + size_t(row) * WIDE + head * HEAD;
    const bool is_query = head < QUERY_HEADS, is_value = head >= QUERY_HEADS + KV_HEADS;
    float* x = heads[warp];
    float squares = 0;
    for (unsigned column = lane * VECTOR; column < HEAD; column += 32 * VECTOR) {
        float part[VECTOR];
        load(at + column, part);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
            if (bias) part[i] += bias[head * HEAD + column + i];
            squares = fmaf(part[i], part[i], squares);
            x[column + i] = part[i];
        }
    }
    const float* norm = is_query ? query_norm : key_norm;
    if (norm && !is_value) {
        const float inverse = inverse_root(warp_sum(squares), HEAD, epsilon);
        __syncwarp();
        for (unsigned column = lane; column < HEAD; column += 32) x[column] *= inverse * norm[column];
    }
    __syncwarp();
    if (!is_value) {
        const float* cosines = angles + size_t(positions[row]) * 2 * half;
        for (unsigned pair = lane; pair < half; pair += 32) {
            const float low = x[pair], high = x[pair + half], cosine = cosines[pair], sine = cosines[half + pair];
            x[pair] = fmaf(low, cosine, -high * sine);
            x[pair + half] = fmaf(high, cosine, low * sine);
        }
        __syncwarp();
    }
    element* to = at;
    if (!is_query) {
        const unsigned shared = (head - QUERY_HEADS) % KV_HEADS;
        to = (is_value ? values : keys) + place_of(blocks + lists[row], positions[row], shared);
    }
    for (unsigned column = lane * VECTOR; column < HEAD; column += 32 * VECTOR) store(to + column, x + column);
}

// act(gate) · up (SwiGLU or GeGLU, Shazeer 2020, arXiv:2002.05202). In a row of `wide` VECTOR gates
// and VECTOR values of up alternate, as the weights were interleaved. `width` is that of the
// result, a multiple of VECTOR.
extern "C" __global__ void __launch_bounds__(256) gated_activation(
    const element* wide, unsigned rows, unsigned width, element* to) {
    const size_t count = size_t(rows) * width / VECTOR;
    for (size_t index = size_t(blockIdx.x) * 256 + threadIdx.x; index < count; index += size_t(gridDim.x) * 256) {
        float gates[VECTOR], x[VECTOR];
        load(wide + index * 2 * VECTOR, gates);
        load(wide + index * 2 * VECTOR + VECTOR, x);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) x[i] *= activated(gates[i]);
        store(to + index * VECTOR, x);
    }
}

// Keys per split of `attend_decode`, a whole number of KV blocks: 8 splits for 2,048 tokens, so
// that a few sequences occupy the device. No record of other values.
#define SPLIT 256
// Query heads per block of `attend_decode`, whose queries and outputs are in registers.
#define TOGETHER (GROUP < 8 ? GROUP : 8)
#define TURNS ((GROUP + TOGETHER - 1) / TOGETHER)
// Lanes that share a key, a vector of VECTOR columns each.
#define LANES (HEAD <= 8 ? 1 : HEAD <= 16 ? 2 : HEAD <= 32 ? 4 : HEAD <= 64 ? 8 : HEAD <= 128 ? 16 : 32)
#define AT_ONCE (128 / LANES)
// Floats of the partial result of one split for one head: weighted sum of the values, largest
// score, sum of weights.
#define PARTIAL (HEAD + 2)

// The first key that a query at this position attends to.
__device__ __forceinline__ unsigned first_seen(unsigned position, unsigned window) {
    return window && position + 1 > window ? position + 1 - window : 0;
}

// Decode: attention of one token's queries to SPLIT of its keys (split-K, as Flash-Decoding), for
// the query heads that share a KV head. One block per row, TOGETHER heads of a group, and split.
// Splits begin at multiples of SPLIT, so that they do not depend on the batch.
extern "C" __global__ void __launch_bounds__(128) attend_decode(
    const element* wide, const unsigned* rows, const unsigned* positions, const unsigned* lists, const unsigned* blocks,
    const element* keys, const element* values, unsigned window, float* partials) {
    __shared__ float scores[TOGETHER][SPLIT];
    __shared__ float sums[AT_ONCE][TOGETHER][HEAD];
    const unsigned row = blockIdx.x, split = blockIdx.z, splits = gridDim.z;
    const unsigned shared = blockIdx.y / TURNS, first_head = shared * GROUP + blockIdx.y % TURNS * TOGETHER;
    const unsigned heads = min(unsigned(TOGETHER), (shared + 1) * GROUP - first_head);
    if (row >= *rows) return;
    const unsigned position = positions[row], begin = split * SPLIT;
    const unsigned first = max(first_seen(position, window), begin), end = min(position + 1, begin + SPLIT);
    if (first >= end) return;
    const unsigned* list = blocks + lists[row];
    const unsigned lane = threadIdx.x % LANES, own = threadIdx.x / LANES, column = lane * VECTOR;
    float query[TOGETHER][VECTOR];
#pragma unroll
    for (int head = 0; head < TOGETHER; head++) {
#pragma unroll
        for (int i = 0; i < VECTOR; i++) query[head][i] = 0;
        if (head < heads && column < HEAD)
            load(wide + size_t(row) * WIDE + (first_head + head) * HEAD + column, query[head]);
    }
    for (unsigned base = 0; base < SPLIT; base += AT_ONCE) {
        const unsigned key = begin + base + own;
        const bool seen = key >= first && key < end;
        float x[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; i++) x[i] = 0;
        if (seen && column < HEAD) load(keys + place_of(list, key, shared) + column, x);
#pragma unroll
        for (int head = 0; head < TOGETHER; head++) {
            float score = 0;
#pragma unroll
            for (int i = 0; i < VECTOR; i++) score = fmaf(query[head][i], x[i], score);
#pragma unroll
            for (int distance = LANES / 2; distance > 0; distance /= 2)
                score += __shfl_xor_sync(0xffffffffu, score, distance);
            if (lane == 0) scores[head][base + own] = seen ? score : NEVER;
        }
    }
    __syncthreads();
    for (unsigned head = threadIdx.x / 32; head < heads; head += 4) {
        float most = NEVER, total = 0;
        for (unsigned key = threadIdx.x % 32; key < SPLIT; key += 32) most = fmaxf(most, scores[head][key]);
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2)
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, distance));
        for (unsigned key = threadIdx.x % 32; key < SPLIT; key += 32) {
            const float weight = exp2f((scores[head][key] - most) * SCALE);
            scores[head][key] = weight;
            total += weight;
        }
        total = warp_sum(total);
        if (threadIdx.x % 32 == 0) {
            float* to = partials + ((size_t(row) * QUERY_HEADS + first_head + head) * splits + split) * PARTIAL;
            to[HEAD] = most;
            to[HEAD + 1] = total;
        }
    }
    __syncthreads();
    float out[TOGETHER][VECTOR];
#pragma unroll
    for (int head = 0; head < TOGETHER; head++)
#pragma unroll
        for (int i = 0; i < VECTOR; i++) out[head][i] = 0;
    if (column < HEAD) {
        for (unsigned key = begin + own; key < end; key += AT_ONCE) {
            if (key < first) continue;
            float x[VECTOR];
            load(values + place_of(list, key, shared) + column, x);
#pragma unroll
            for (int head = 0; head < TOGETHER; head++) {
                if (head >= heads) continue;
                const float weight = scores[head][key - begin];
#pragma unroll
                for (int i = 0; i < VECTOR; i++) out[head][i] = fmaf(weight, x[i], out[head][i]);
            }
        }
#pragma unroll
        for (int head = 0; head < TOGETHER; head++) store_floats(sums[own][head] + column, out[head]);
    }
    __syncthreads();
    for (unsigned index = threadIdx.x; index < heads * HEAD; index += 128) {
        const unsigned head = index / HEAD, at = index % HEAD;
        float sum = 0;
        for (int part = 0; part < AT_ONCE; part++) sum += sums[part][head][at];
        partials[((size_t(row) * QUERY_HEADS + first_head + head) * splits + split) * PARTIAL + at] = sum;
    }
}

// Combines the partial results of the splits, in order. One block per row and head.
extern "C" __global__ void __launch_bounds__(128) reduce_splits(
    const float* partials, const unsigned* rows, const unsigned* positions, unsigned window, unsigned splits, element* to) {
    const unsigned row = blockIdx.x, head = blockIdx.y;
    if (row >= *rows) return;
    const float* parts = partials + (size_t(row) * QUERY_HEADS + head) * splits * PARTIAL;
    const unsigned first = first_seen(positions[row], window) / SPLIT, last = positions[row] / SPLIT;
    float most = NEVER, total = 0;
    for (unsigned split = first; split <= last; split++) most = fmaxf(most, parts[split * PARTIAL + HEAD]);
    for (unsigned split = first; split <= last; split++)
        total = fmaf(exp2f((parts[split * PARTIAL + HEAD] - most) * SCALE), parts[split * PARTIAL + HEAD + 1], total);
    for (unsigned column = threadIdx.x * VECTOR; column < HEAD; column += 128 * VECTOR) {
        float sum[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; i++) sum[i] = 0;
        for (unsigned split = first; split <= last; split++) {
            const float weight = exp2f((parts[split * PARTIAL + HEAD] - most) * SCALE);
#pragma unroll
            for (int i = 0; i < VECTOR; i++) sum[i] = fmaf(weight, parts[split * PARTIAL + column + i], sum[i]);
        }
#pragma unroll
        for (int i = 0; i < VECTOR; i++) sum[i] /= total;
        store(to + size_t(row) * QUERY_HEADS * HEAD + head * HEAD + column, sum);
    }
}

#if ELEMENT != 2

// Queries of a tile of `attend_prefill`: one block of 16 for each of four warps.
#define QUERIES 64
#define WIDTH (QUERY_HEADS * HEAD)

// Prefill: causal attention of pieces of prompts, QUERIES rows at a time. A tile is x, its first
// row, y, its number of rows, z, the position of the first in its sequence, and w, the offset of
// the block table. One block per head and tile, a quarter of the rows per warp.
extern "C" __global__ void __launch_bounds__(128) attend_prefill(
    const element* wide, const uint4* tiles, const unsigned* blocks, const element* keys, const element* values,
    unsigned window, element* to) {
    SHARED_MEMORY(element, memory);
    const unsigned head = blockIdx.x, shared = head / GROUP, warp = threadIdx.x / 32;
    const uint4 tile = tiles[blockIdx.y];
    const unsigned* list = blocks + tile.w;
    const int end = tile.z + tile.y;
    // Double buffering: two stages of keys and values, of which the second holds the queries until
    // they are in registers.
    element* second = memory + 2 * KEYS * ROW;
    auto fetch = [&](int begin, element* stage) {
        for (int index = threadIdx.x; index < 2 * KEYS * CHUNKS; index += 128) {
            const bool value = index >= KEYS * CHUNKS;
            const int row = index / CHUNKS % KEYS, column = index % CHUNKS * VECTOR;
            const bool there = begin + row < end && column < HEAD;
            const element* from = value ? values : keys;
            copy_async(stage + (index / CHUNKS) * ROW + column,
                       there ? from + place_of(list, begin + row, shared) + column : from, there);
        }
        commit();
    };
    for (int index = threadIdx.x; index < QUERIES * CHUNKS; index += 128) {
        const int row = index / CHUNKS, column = index % CHUNKS * VECTOR;
        const bool there = row < tile.y && column < HEAD;
        copy_async(second + row * ROW + column,
                   there ? wide + size_t(tile.x + row) * WIDE + head * HEAD + column : wide, there);
    }
    commit();
    // Keys are visited from a multiple of KEYS on, so that a row's sums have the same order in
    // whatever tile it is.
    const int start = first_seen(tile.z, window) / KEYS * KEYS;
    fetch(start, memory);
    arrived<1>();
    __syncthreads();
    const int row = warp * (QUERIES / 4);
    Queries<1> own;
    own.begin(second + row * ROW);
    __syncthreads();
    const bool busy = row < tile.y;
    for (int begin = start, turn = 0; begin < end; begin += KEYS, turn ^= 1) {
        if (begin + KEYS < end) {
            fetch(begin + KEYS, memory + (turn ^ 1) * 2 * KEYS * ROW);
            arrived<1>();
        } else {
            arrived<0>();
        }
        __syncthreads();
        const element* stage = memory + turn * 2 * KEYS * ROW;
        const int reach = window ? int(window) : 1 << 30;
        if (busy)
            own.visit<true>(stage, stage + KEYS * ROW, min(KEYS, end - begin), int(tile.z) + row - begin, reach);
        __syncthreads();
    }
    if (!busy) return;
    element* at = to + size_t(tile.x + row) * WIDTH + head * HEAD;
    own.finish(memory + row * ROW, at, WIDTH, min(QUERIES / 4, int(tile.y) - row));
}

#endif
