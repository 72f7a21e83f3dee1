// Random numbers that are a function of key and place: Philox 4×64 with ten rounds (Salmon et al. 2011, "Parallel random
// numbers: as easy as 1, 2, 3", section 3.3), counted as NumPy counts, so that they are those of the rules bit for bit.
//
// Each row of a batch has its own numbers, however the batch is cut: the number of the row is part of the counter. One
// counter gives four 64-bit words, so eight numbers of 32 bits, low half first; their upper 24 bits are a uniform
// u in [0, 1). About 200 integer instructions a counter.

struct randomness {
    const word* counter;  // step, and number of the batch's first row; in memory, where a captured step reads them
    word key0, key1;
    unsigned limit;  // u ≥ p where its 24 bits are at least this
    word row;        // within the batch
};

__device__ void philox(word (&x)[4], word key0, word key1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        word a = 0xd2e7470ee14c6c93, b = 0xca5a826395121157;  // the multipliers and, below, the key's steps: table 2
        word high0 = __umul64hi(a, x[0]), low0 = a * x[0], high1 = __umul64hi(b, x[2]), low1 = b * x[2];
        x[0] = high1 ^ x[1] ^ key0, x[1] = low1;
        x[2] = high0 ^ x[3] ^ key1, x[3] = low0;
        key0 += 0x9e3779b97f4a7c15, key1 += 0xbb67ae8584caa73b;
    }
}

// Which of a row's entries 8 place … 8 place + 7 a dropout keeps: eight bits.
__device__ unsigned kept(const randomness& r, word place) {
    word x[4] = {place + 1, r.counter[0], r.counter[1] + r.row, 0};  // NumPy counts before it draws
    philox(x, r.key0, r.key1);
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) bits |= unsigned(unsigned(x[i / 2] >> i % 2 * 32) >> 8 >= r.limit) << i;
    return bits;
}
