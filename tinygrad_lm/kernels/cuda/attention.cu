// Attention in bf16 without the weights P in memory (Dao 2023, "FlashAttention-2", algorithm 1).
//
//   y = (P m) v,  P = 2^(c z − L),  z = q kᵀ,  L = log₂ Σ 2^(c z),  c = log₂ e/√D
//
// q, y: (B, T, H, D); k, v: (B, S, G, D), H/G query heads share a key head; L: (B, H, T) float. Causal: query i sees
// keys up to i + S − T; starts: (B, T), it sees keys from starts[i] on. m: 1/(1 − p) for what dropout keeps, else 0;
// see attention_dropout.cu, which draws it beforehand.
//
// A block has warps with strips of 16 queries each, whose sums stay in its registers. The keys and values that all of
// them go through come in tiles to shared memory, in two places by turns: while the products of one tile are computed
// the next is on its way. A row's largest logit and sum are corrected whenever a larger one comes, and the output with
// them. Tiles that no query of the block sees are not brought, those that none of the warp (on Hopper, for D = 64, of
// the four warps that compute products together) sees are not computed, and where all see all nothing is compared.
//
// Memory: q and y once, k and v once for each block of queries, most of that from the L2 cache; nothing of size T × S
// but, with dropout, the mask, a bit a weight. The products are the cost: 4 T S D operations a head, half of it if
// causal.

#include "common.cuh"
#include "matrices.cuh"
#include "matrices_warp.cuh"
#include "matrices_warpgroup.cuh"
#include "attention.cuh"

extern "C" __global__ void __launch_bounds__(WARPS * 32, 2)
    attention_forward(const bf16* q, const bf16* k, const bf16* v, const int* starts, bf16* y, float* logs, int T,
                      int S, int H, int G, int causal, float scale, const word* mask, float grown) {
    __shared__ __align__(1024) line keys[2][TILE], values[2][TILE];
    PLACE
    sight seen = look(starts, mine, T, S, causal);
    fragments Q[STRIPS];
#pragma unroll
    for (int m = 0; m < STRIPS; m++) fetch(Q[m], q + head, stride, mine + 16 * m, T);
    float sum[STRIPS][D / 8][4] = {}, largest[STRIPS][2], total[STRIPS][2] = {};
    for (int i = 0; i < 2 * STRIPS; i++) largest[i / 2][i % 2] = -INFINITE;
    auto bring = [&](int j, int stage) {
        fill<WARPS * 32>(keys[stage], k + key_head, key_stride, j, S);
        fill<WARPS * 32>(values[stage], v + key_head, key_stride, j, S);
    };

    if (begin < end) bring(begin, 0);
    for (int j = begin, stage = 0; j < end; j += TILE, stage ^= 1) {
        wait_for_copies();
        show_copies();
        __syncthreads();  // everybody's copies are there, and all warps are done with the tiles before
        if (j + TILE < end) bring(j + TILE, 1 - stage);
        if (nothing(seen, j, TILE)) continue;
        float z[STRIPS][TILE / 8][4];
        times_transposed<STRIPS, TILE>(z, Q, keys[stage], 0);
        finish_products(z);
        hide<TILE>(z, seen, j);
#pragma unroll
        for (int m = 0; m < STRIPS; m++) {
            float shift[2], factor[2];
            for (int r = 0; r < 2; r++) {
                float before = largest[m][r];
#pragma unroll
                for (int n = 0; n < TILE / 4; n++) largest[m][r] = fmaxf(largest[m][r], z[m][n / 2][2 * r + n % 2]);
                largest[m][r] = row_max(largest[m][r]);
                shift[r] = largest[m][r] == -INFINITE ? 0 : largest[m][r] * scale;  // nothing seen so far: no ∞ − ∞
                factor[r] = exp2f(before * scale - shift[r]);
                total[m][r] *= factor[r];
            }
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
                for (int i = 0; i < 4; i++) {
                    z[m][n][i] = exp2f(fmaf(z[m][n][i], scale, -shift[i / 2]));
                    total[m][i / 2] += z[m][n][i];
                }
            if (__any_sync(0xffffffff, factor[0] != 1 || factor[1] != 1))  // seldom after the first tiles
#pragma unroll
                for (int n = 0; n < D / 8; n++)
                    for (int i = 0; i < 4; i++) sum[m][n][i] *= factor[i / 2];
            if (DROPOUT) {
                word bits[2];
                look_up(bits, mask, seen, mine, m, j, T, S);
#pragma unroll
                for (int n = 0; n < TILE / 8; n++)
                    for (int i = 0; i < 4; i++) z[m][n][i] = stays(bits, n, i) ? z[m][n][i] : 0;
            }
        }
        add_product<STRIPS, TILE>(sum, z, values[stage], 0);
        finish_products(sum);
    }

#pragma unroll
    for (int m = 0; m < STRIPS; m++) {
        for (int r = 0; r < 2; r++) {
            total[m][r] = row_sum(total[m][r]);
            int query = mine + 16 * m + g + r * 8;
            if (t == 0 && query < T) logs[row + query] = largest[m][r] * scale + log2f(total[m][r]);
        }
        put(y + head, stride, mine + 16 * m, T, sum[m], grown / total[m][0], grown / total[m][1]);
    }
}
