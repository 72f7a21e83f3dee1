// What attention's kernels share: which block and warp has which queries, what these see, and which weights are dropped.
//
//   D         a multiple of 16, at most 128
//   STRIPS    of 16 queries that a warp has
//   WARPS     of a block of queries
//   DROPOUT, STARTS    whether there are such
//   WGMMA     whether a warpgroup computes the products, or each warp its own

const float LOG2E = 1.44269504f;
#define INFINITE __uint_as_float(0x7f800000)
const int QUERIES = WARPS * 16 * STRIPS;
const int TILE = D <= 64 ? 64 : 32;  // keys that are brought at once: two stages of k and v are less than 48 KiB

// The last of the blocks in a row of the grid, which has the most keys to see, starts first.
#define PLACE                                                                                                \
    int start = (gridDim.x - 1 - blockIdx.x) * QUERIES, h = blockIdx.y, b = blockIdx.z, group = h / (H / G); \
    int mine = start + threadIdx.x / 32 * 16 * STRIPS, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;        \
    long long head = (b * (long long)T * H + h) * D, key_head = (b * (long long)S * G + group) * D;          \
    long long stride = H * D, key_stride = G * D, row = (b * (long long)H + h) * T;                          \
    if (STARTS) starts += b * (long long)T;                                                                  \
    if (DROPOUT) mask += row * ((S + 63) / 64);                                                              \
    int begin = STARTS ? max(0, least(starts, start, min(T, start + QUERIES))) / TILE * TILE : 0;            \
    int end = causal ? min(S, start + QUERIES + S - T) : S;

// The least of x from `from` to before `to`, by a whole warp.
__device__ int least(const int* x, int from, int to) {
    int found = 0x7fffffff;
    for (int i = from + threadIdx.x % 32; i < to; i += 32) found = min(found, x[i]);
    return __reduce_min_sync(0xffffffff, found);
}

// The rows from `start` on, of `stride` entries each, on their way into shared memory; beyond `end` zeros. A thread has
// the same packet of every ROWSth row, so its place is found once: places found one by one are a third of a tile's
// instructions.
template <int threads, int R>
__device__ void fill(line (&to)[R], const bf16* x, int stride, int start, int end) {
    const int PACKETS = D / 8, ROWS = threads / PACKETS;
    int row = threadIdx.x / PACKETS, column = threadIdx.x % PACKETS * 8;
    const bf16* from = x + (start + row) * (long long)stride + column;
#pragma unroll
    for (int r = 0; r < R; r += ROWS) {
        if (R % ROWS && row + r >= R) break;
        copy_later_16(&to[row + r][place(row + r, column)], from + r * stride, start + row + r < end);
    }
}

// What the queries of a warp's strips see.
struct sight {
    int low[STRIPS][2], high[STRIPS][2];  // query g + 8 r of a strip: keys from low on, before high
    int first, last;  // of all that compute together, one sees first … last − 1
    int from, to;     // of the warp, all see from … to − 1
};

__device__ sight look(const int* starts, int mine, int T, int S, int causal) {
    sight x;
    int most = 0;
#pragma unroll
    for (int i = 0; i < 2 * STRIPS; i++) {
        int query = min(T - 1, mine + i * 8 + int(threadIdx.x) % 32 / 4);
        int low = x.low[i / 2][i % 2] = STARTS ? starts[query] : 0;
        x.high[i / 2][i % 2] = causal ? query + S - T + 1 : S;
        most = max(most, low);
    }
    x.from = STARTS ? __reduce_max_sync(0xffffffff, most) : 0;
    const int together = TOGETHER * STRIPS;
    int begin = mine / together * together;
    x.first = STARTS ? least(starts, begin, min(T, begin + together)) : 0;
    x.to = causal ? min(S, mine + S - T + 1) : S;
    x.last = begin >= T ? 0 : causal ? min(S, begin + together + S - T) : S;
    return x;
}

__device__ bool nothing(const sight& seen, int key, int count) {
    return key >= seen.last || key + count <= seen.first;
}

// z of n keys from j on: −∞ where the query does not see the key.
template <int n> __device__ void hide(float (&z)[STRIPS][n / 8][4], const sight& seen, int j) {
    if (j >= seen.from && j + n <= seen.to) return;
#pragma unroll
    for (int m = 0; m < STRIPS; m++)
#pragma unroll
        for (int k = 0; k < n / 8; k++)
            for (int i = 0; i < 4; i++) {
                int key = j + k * 8 + threadIdx.x % 4 * 2 + i % 2;
                if (key < seen.low[m][i / 2] || key >= seen.high[m][i / 2]) z[m][k][i] = -INFINITE;
            }
}

// The mask of attention_dropout.cu for a strip's two queries of a lane, from key j on: a word's rest, shifted so that
// bit 8 k + i % 2 of word i / 2 is that of entry i of the fragment's keys 8 k on. What no query sees has not been drawn.
__device__ void look_up(word (&bits)[2], const word* mask, const sight& seen, int mine, int m, int j, int T, int S) {
    int words = (S + 63) / 64;
    for (int r = 0; r < 2; r++) {
        int query = mine + 16 * m + 8 * r + threadIdx.x % 32 / 4;
        bits[r] = query < T && j < seen.high[m][r] ? mask[query * words + j / 64] : 0;
        bits[r] >>= j % 64 + threadIdx.x % 4 * 2;
    }
}

__device__ bool stays(const word (&bits)[2], int k, int i) { return bits[i / 2] >> (8 * k + i % 2) & 1; }
