// Rows of a table by token id, y[n] = w[id n], and the table's gradient, dw[v] = Σ dy[n] over the n with id n = v.
//
// Forward: a thread copies one packet. An id outside the table gives NaN, never a foreign address; it has no gradient.
// Backward: no atomic additions, whose order and so whose rounding would differ from run to run. The positions are
// sorted by id first, `starts[v]` is where those of v begin in `order`. A block of 32 × GROUPS threads has 32 packets
// of one row of dw: each warp adds up every GROUPSth position of the segment, then the first warp adds those sums,
// always in the same order. Rows whose token does not occur get zeros here, so dw needs no clearing.
// Memory: reads dy once, by rows; writes dw once.
//
// The sort counts (Knuth 1998, "The art of computer programming", volume 3, section 5.2), so that equal ids keep their
// order. A block has a strip of positions; table (strips, V), zero before, gets how often each id occurs in each strip,
// then how often in the strips before it:
//
//   place of position p = starts[id p] + table[strip of p][id p] + rank of p among the equal ids of its strip
//
//   GROUPS: warps a block, more where few tokens share many positions

#include "common.cuh"

extern "C" __global__ void embedding_forward(const REAL* w, const int* ids, REAL* y, long long n, int C, int V) {
    long long i = first();
    if (i >= n) return;
    int id = ids[i / C];
    float v[WIDTH];
    if (id >= 0 && id < V)
        load(w + id * (long long)C + i % C, v);
    else
        for (int j = 0; j < WIDTH; j++) v[j] = __uint_as_float(0x7fffffff);
    store(y + i, v);
}

// The last position of an id in its strip knows how many there are.
extern "C" __global__ void ranks_in_strips(const int* ids, int* ranks, int* table, int n, int V) {
    __shared__ int strip[1024];
    int here = threadIdx.x, p = blockIdx.x * blockDim.x + here, id = p < n ? ids[p] : -1, before = 0, after = 0;
    strip[here] = id;
    __syncthreads();
    for (int i = 0; i < blockDim.x; i++) {
        before += i < here && strip[i] == id;
        after += i > here && strip[i] == id;
    }
    if (id < 0 || id >= V) return;
    ranks[p] = before;
    if (after == 0) table[blockIdx.x * (long long)V + id] = before + 1;
}

// The sum of what the block's threads up to this one have, over distances of 1, 2, 4, … (Hillis and Steele 1986, "Data
// parallel algorithms").
__device__ int sum_up_to_here(int x) {
    __shared__ int sums[1024];
    int here = threadIdx.x;
    sums[here] = x;
    for (int distance = 1; distance < blockDim.x; distance *= 2) {
        __syncthreads();
        int others = here < distance ? 0 : sums[here - distance];
        __syncthreads();
        sums[here] += others;
    }
    return sums[here];
}

// A thread an id, down the strips; what it has in all of them goes to `totals`, and what the block has to `of_block`.
extern "C" __global__ void counts_before(int* table, int* totals, int* of_block, int strips, int V) {
    int v = blockIdx.x * blockDim.x + threadIdx.x, sum = 0;
    for (int s = 0; v < V && s < strips; s += 8) {
        int count[8];  // on the way at the same time, for none waits until the last sum is written
        for (int i = 0; i < 8; i++) count[i] = s + i < strips ? table[(s + i) * (long long)V + v] : 0;
        for (int i = 0; i < 8; i++) {
            if (s + i < strips) table[(s + i) * (long long)V + v] = sum;
            sum += count[i];
        }
    }
    if (v < V) totals[v] = sum;
    int all = sum_up_to_here(sum);
    if (threadIdx.x == blockDim.x - 1) of_block[blockIdx.x] = all;
}

// The totals of V ids become the sums of all before them, and at starts[V] of all. The first half of a block's threads
// has what the blocks before have, the second half a total each, and so do the blocks of counts_before.
extern "C" __global__ void starts_from_totals(int* starts, const int* of_block, int V) {
    int half = blockDim.x / 2, here = threadIdx.x, v = blockIdx.x * half + here - half, x = 0;
    if (here < half)
        for (int b = here; b < blockIdx.x; b += half) x += of_block[b];
    else if (v < V)
        x = starts[v];
    int sum = sum_up_to_here(x);
    if (here >= half && v < V) starts[v] = sum - x;
    if (here >= half && v == V - 1) starts[V] = sum;
}

extern "C" __global__ void positions_by_id(const int* ids, const int* ranks, const int* table, const int* starts,
                                           int* order, int n, int V) {
    int p = blockIdx.x * blockDim.x + threadIdx.x, id = p < n ? ids[p] : -1;
    if (id >= 0 && id < V) order[starts[id] + table[blockIdx.x * (long long)V + id] + ranks[p]] = p;
}

// dw may be added to `plus`, or lie in its place: rows whose token does not occur are then left alone.
extern "C" __global__ void embedding_backward(const REAL* dy, const int* order, const int* starts, const REAL* plus,
                                              REAL* dw, int C) {
    __shared__ float of_warp[GROUPS][32][WIDTH];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, c = (blockIdx.y * 32 + lane) * WIDTH;
    int start = starts[blockIdx.x], end = starts[blockIdx.x + 1];
    if (plus == dw && start == end) return;
    float sum[WIDTH] = {};
    if (c < C)
        for (int k = start + warp; k < end; k += 4 * GROUPS) {
            float v[4][WIDTH];  // no branch around a load: all four are on the way at the same time
            for (int j = 0; j < 4; j++) load(dy + order[min(k + j * GROUPS, end - 1)] * (long long)C + c, v[j]);
            for (int j = 0; j < 4; j++)
                for (int i = 0; i < WIDTH; i++) sum[i] += k + j * GROUPS < end ? v[j][i] : 0;
        }
    for (int i = 0; i < WIDTH; i++) of_warp[warp][lane][i] = sum[i];
    __syncthreads();
    if (warp == 0 && c < C) {
        for (int other = 1; other < GROUPS; other++)
            for (int i = 0; i < WIDTH; i++) sum[i] += of_warp[other][lane][i];
        long long here = blockIdx.x * (long long)C + c;
        float before[WIDTH];
        if (plus) load(plus + here, before);
        for (int i = 0; plus && i < WIDTH; i++) sum[i] += before[i];
        store(dw + here, sum);
    }
}
