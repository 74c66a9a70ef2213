// Runs one mutant clock by clock until an output differs from what is demanded.
#include "design.cc"

#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

template <size_t N> const cxxrtl::value<N> &bits(const cxxrtl::value<N> &port) { return port; }
template <size_t N> const cxxrtl::value<N> &bits(const cxxrtl::wire<N> &port) { return port.curr; }

template <size_t N> bool equal(const cxxrtl::value<N> &port, const uint32_t *demanded) {
    for (size_t i = 0; i < port.chunks; i++)
        if (port.data[i] != demanded[i]) return false;
    return true;
}

enum Flag { RESET = 1, OFFERED = 2, TAKES = 4, READY = 8, VALID = 16 };

} // namespace

// Returns the first clock with a wrong output, -1 if there is none. `flags` holds a sum of `Flag` per clock.
EXPORT int64_t first_difference(uint32_t mutant, const uint8_t *flags, const uint32_t *payload,
                                const uint32_t *item, int64_t clocks) {
    cxxrtl_design::p_dut dut;
    const int64_t words = dut.p_i____payload.chunks;
    const int64_t item_words = bits(dut.p_o____payload).chunks;
    dut.p_mutant.set<uint32_t>(mutant);
    for (int64_t clock = 0; clock < clocks; clock++) {
        const uint8_t now = flags[clock];
        for (int64_t i = 0; i < words; i++) dut.p_i____payload.data[i] = payload[clock * words + i];
        dut.p_rst.set<bool>(now & RESET);
        dut.p_i____valid.set<bool>(now & OFFERED);
        dut.p_o____ready.set<bool>(now & TAKES);
        dut.p_clk.set<bool>(false);
        dut.step();
        if (!(now & RESET)) {
            if (bits(dut.p_i____ready).template get<bool>() != bool(now & READY)) return clock;
            if (bits(dut.p_o____valid).template get<bool>() != bool(now & VALID)) return clock;
            if (now & VALID && !equal(bits(dut.p_o____payload), item + clock * item_words)) return clock;
        }
        dut.p_clk.set<bool>(true);
        dut.step();
    }
    return -1;
}
