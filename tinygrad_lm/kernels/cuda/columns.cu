// y[s, c] = Σ x[n, c] over the rows n of strip s, ROWS of them, in an order that depends on their number alone, so that
// every run gives the same bits.
//
// A block has 32 neighbouring columns of a strip: a warp reads 32 numbers of a row, the eight warps every eighth row,
// and in the end the first warp adds the eight sums. Memory: x once. Done again with y for x it leaves one row.
//
//   FROM: what x holds, as REAL for y

#include "common.cuh"

extern "C" __global__ void column_sums(const FROM* x, REAL* y, int N, int C) {
    __shared__ float of_warp[8][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, c = blockIdx.x * 32 + lane;
    int end = N < (blockIdx.y + 1) * ROWS ? N : (blockIdx.y + 1) * ROWS;
    float sum = 0;
    if (c < C)
        for (int n = blockIdx.y * ROWS + warp; n < end; n += 8) sum += widened(x[n * (long long)C + c]);
    of_warp[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && c < C) {
        for (int i = 1; i < 8; i++) sum += of_warp[i][lane];
        round_to(y[blockIdx.y * (long long)C + c], sum);
    }
}
