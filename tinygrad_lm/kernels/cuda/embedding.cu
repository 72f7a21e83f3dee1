// Rows of a table by token id, y[n] = w[id n], and the table's gradient, dw[v] = Σ dy[n] over the n with id n = v.
//
// Forward: a thread copies one packet. An id outside the table gives NaN, never a foreign address.
// Backward: no atomic additions, whose order and so whose rounding would differ from run to run. The positions are
// sorted by id beforehand; `starts[v]` is where those of v begin in `order`. A block of 32 × GROUPS threads has 32
// packets of one row of dw: each warp adds up every GROUPSth position of the segment, then the first warp adds those
// sums, always in the same order. Rows whose token does not occur get zeros here, so dw needs no clearing.
// Memory: reads dy once, by rows; writes dw once.
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

extern "C" __global__ void embedding_backward(const REAL* dy, const int* order, const int* starts, REAL* dw, int C) {
    __shared__ float of_warp[GROUPS][32][WIDTH];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, c = (blockIdx.y * 32 + lane) * WIDTH;
    float sum[WIDTH] = {};
    if (c < C)
        for (int k = starts[blockIdx.x] + warp; k < starts[blockIdx.x + 1]; k += GROUPS) {
            float v[WIDTH];
            load(dy + order[k] * (long long)C + c, v);
            for (int i = 0; i < WIDTH; i++) sum[i] += v[i];
        }
    for (int i = 0; i < WIDTH; i++) of_warp[warp][lane][i] = sum[i];
    __syncthreads();
    if (warp == 0 && c < C) {
        for (int other = 1; other < GROUPS; other++)
            for (int i = 0; i < WIDTH; i++) sum[i] += of_warp[other][lane][i];
        store(dw + blockIdx.x * (long long)C + c, sum);
    }
}
