// y[c] = Σ x[n, c] over N rows, in an order that depends on N alone, so that every run gives the same bits.
//
// 32 × 8 threads take 32 columns: a warp reads 32 neighbours of a row, the eight warps every eighth row, and in the end
// the first warp adds the eight sums. Memory: x once. It is meant for the few hundred rows that other kernels' blocks
// leave behind (float, whatever REAL is), not for a whole activation.

#include "common.cuh"

extern "C" __global__ void column_sums(const float* x, REAL* y, int N, int C) {
    __shared__ float of_warp[8][32];
    int c = blockIdx.x * 32 + threadIdx.x % 32, warp = threadIdx.x / 32;
    float sum = 0;
    if (c < C)
        for (int n = warp; n < N; n += 8) sum += x[n * (long long)C + c];
    of_warp[warp][threadIdx.x % 32] = sum;
    __syncthreads();
    if (warp == 0 && c < C) {
        for (int i = 1; i < 8; i++) sum += of_warp[i][threadIdx.x];
        round_to(y[c], sum);
    }
}
