// y[s, c] = Σ x[n, c] over the rows n of strip s, `rows` of them, plus total[c] if it is there. The order of the additions
// depends on their number alone, so that every run gives the same bits.
//
// A block has 32 neighbouring packets of a strip: a warp reads 32 packets of a row, four rows at a time, the block's
// warps every WARPSth row, and in the end the first warp adds the warps' sums. Memory: x once. Done again with y for x
// it leaves one row.
//
//   WARPS: of a block

#include "common.cuh"

extern "C" __global__ void __launch_bounds__(32 * WARPS, 32 / WARPS) column_sums(const REAL* x, const float* total,
                                                                               float* y, int N, int C, int rows) {
    __shared__ float of_warp[WARPS][32][WIDTH];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, c = (blockIdx.x * 32 + lane) * WIDTH;
    int end = min(N, (blockIdx.y + 1) * rows);
    float sum[WIDTH] = {};
    if (c < C)
        for (int n = blockIdx.y * rows + warp; n < end; n += 4 * WARPS) {
            float v[4][WIDTH];  // no branch around a load: all four are on the way at the same time
            for (int k = 0; k < 4; k++) load(x + min(n + k * WARPS, end - 1) * (long long)C + c, v[k]);
            for (int k = 0; k < 4; k++)
                for (int i = 0; i < WIDTH; i++) sum[i] += n + k * WARPS < end ? v[k][i] : 0;
        }
    for (int i = 0; i < WIDTH; i++) of_warp[warp][lane][i] = sum[i];
    __syncthreads();
    if (warp == 0 && c < C) {
        for (int other = 1; other < WARPS; other++)
            for (int i = 0; i < WIDTH; i++) sum[i] += of_warp[other][lane][i];
        if (total) sum[0] += total[c];
        store(y + blockIdx.y * (long long)C + c, sum);
    }
}
