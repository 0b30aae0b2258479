// What stands between the matrix products of a decoder: embeddings, norms, rotation, gates, and attention of one query.
//
// The states of tokens are float. HEAD is the size of a head, a multiple of VECTOR; GROUP query heads share the keys of
// one of SHARED heads. Rows are the tokens of a step; what is made of a row depends on that row alone.

#define QUERY_HEADS (SHARED * GROUP)
// Columns of a row of queries, keys and values.
#define WIDE ((QUERY_HEADS + 2 * SHARED) * HEAD)
// Tokens of a block of keys or values; `kernels::paged::BLOCK`.
#define BLOCK 32

// Where the keys, or the values, of a head lie that belong to a token of a text with these blocks.
__device__ __forceinline__ size_t place_of(const unsigned* blocks, unsigned token, unsigned head) {
    return ((size_t(blocks[token / BLOCK]) * SHARED + head) * BLOCK + token % BLOCK) * HEAD;
}

// Sum over the 256 threads of a block, in an order that does not change.
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

// What the root mean square norm multiplies a row by, for all 256 threads of a block.
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

// The vectors of tokens, scaled. A block for each row.
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

// Root mean square norm (Zhang and Sennrich 2019, arXiv:1910.07467) of rows of states, of those that `chosen` lists where
// it is there. A block for each row.
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

// Adds the norm of each row to the row's state. A block for each row.
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

// Finishes queries, keys and values: the bias, where there is one; of queries and keys the norm of each head, where
// there is one, and the rotation (Su et al. 2021, arXiv:2104.09864) of the first 2 · half columns by the token's place.
// Queries stay where they are, keys and values go into their blocks. A warp for each head, a block for four of a row.
extern "C" __global__ void __launch_bounds__(128) place_heads(
    element* wide, const unsigned* rows, const unsigned* positions, const unsigned* lists, const unsigned* blocks,
    const float* bias, const float* query_norm, const float* key_norm, float epsilon, const float* angles, unsigned half,
    element* keys, element* values) {
    __shared__ float heads[4][HEAD];
    const unsigned row = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned head = blockIdx.y * 4 + warp;
    if (row >= *rows || head >= QUERY_HEADS + 2 * SHARED) return;
    element* at = wide + size_t(row) * WIDE + head * HEAD;
    const bool is_query = head < QUERY_HEADS, is_value = head >= QUERY_HEADS + SHARED;
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
        const unsigned shared = (head - QUERY_HEADS) % SHARED;
        to = (is_value ? values : keys) + place_of(blocks + lists[row], positions[row], shared);
    }
    for (unsigned column = lane * VECTOR; column < HEAD; column += 32 * VECTOR) store(to + column, x + column);
}

// act(gate) · up (Shazeer 2020, arXiv:2002.05202) of rows in which eight gates and the eight that they open lie side by
// side in turns. `width` is the width of the result, a multiple of eight.
extern "C" __global__ void __launch_bounds__(256) open_gates(
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

// Keys that a block of `attend_rows` visits, a whole number of blocks.
#define SPLIT 256
// Query heads that a block of `attend_rows` takes.
#define TOGETHER (GROUP < 8 ? GROUP : 8)
#define TURNS ((GROUP + TOGETHER - 1) / TOGETHER)
// Lanes that share a key.
#define LANES (HEAD <= 8 ? 1 : HEAD <= 16 ? 2 : HEAD <= 32 ? 4 : HEAD <= 64 ? 8 : HEAD <= 128 ? 16 : 32)
#define AT_ONCE (128 / LANES)
// Floats of what one block found for one head: the sums of values, the largest score, the sum of weights.
#define FOUND (HEAD + 2)

// The first key that a query at this place sees.
__device__ __forceinline__ unsigned first_seen(unsigned position, unsigned window) {
    return window && position + 1 > window ? position + 1 - window : 0;
}

// Attention of one query to SPLIT of its keys, for the heads that share them. A block for each row, each TOGETHER heads
// of a group, and each SPLIT keys.
extern "C" __global__ void __launch_bounds__(128) attend_rows(
    const element* wide, const unsigned* rows, const unsigned* positions, const unsigned* lists, const unsigned* blocks,
    const element* keys, const element* values, unsigned window, float* found) {
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
            float* to = found + ((size_t(row) * QUERY_HEADS + first_head + head) * splits + split) * FOUND;
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
        found[((size_t(row) * QUERY_HEADS + first_head + head) * splits + split) * FOUND + at] = sum;
    }
}

// What the blocks of `attend_rows` found, put together. A block for each row and head.
extern "C" __global__ void __launch_bounds__(128) join_splits(
    const float* found, const unsigned* rows, const unsigned* positions, unsigned window, unsigned splits, element* to) {
    const unsigned row = blockIdx.x, head = blockIdx.y;
    if (row >= *rows) return;
    const float* parts = found + (size_t(row) * QUERY_HEADS + head) * splits * FOUND;
    const unsigned first = first_seen(positions[row], window) / SPLIT, last = positions[row] / SPLIT;
    float most = NEVER, total = 0;
    for (unsigned split = first; split <= last; split++) most = fmaxf(most, parts[split * FOUND + HEAD]);
    for (unsigned split = first; split <= last; split++)
        total = fmaf(exp2f((parts[split * FOUND + HEAD] - most) * SCALE), parts[split * FOUND + HEAD + 1], total);
    for (unsigned column = threadIdx.x * VECTOR; column < HEAD; column += 128 * VECTOR) {
        float sum[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; i++) sum[i] = 0;
        for (unsigned split = first; split <= last; split++) {
            const float weight = exp2f((parts[split * FOUND + HEAD] - most) * SCALE);
#pragma unroll
            for (int i = 0; i < VECTOR; i++) sum[i] = fmaf(weight, parts[split * FOUND + column + i], sum[i]);
        }
#pragma unroll
        for (int i = 0; i < VECTOR; i++) sum[i] /= total;
        store(to + size_t(row) * QUERY_HEADS * HEAD + head * HEAD + column, sum);
    }
}

#if ELEMENT != 2

// Queries of a tile of `attend_prompts`.
#define QUERIES 64
#define WIDTH (QUERY_HEADS * HEAD)

// Attention of pieces of texts, QUERIES rows of one at a time. A tile is x, its first row, y, its rows, z, the place of
// the first in its text, and w, the text's list of blocks. A block for each head and tile, a quarter of the rows for
// each warp.
extern "C" __global__ void __launch_bounds__(128) attend_prompts(
    const element* wide, const uint4* tiles, const unsigned* blocks, const element* keys, const element* values,
    unsigned window, element* to) {
    SHARED_MEMORY(element, memory);
    const unsigned head = blockIdx.x, shared = head / GROUP, warp = threadIdx.x / 32;
    const uint4 tile = tiles[blockIdx.y];
    const unsigned* list = blocks + tile.w;
    const int end = tile.z + tile.y;
    // Two stages of keys and values; the second holds the queries until they are in registers.
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
    // Keys are visited from a multiple of KEYS on, so that a row's sums have one order in whatever tile it is.
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
