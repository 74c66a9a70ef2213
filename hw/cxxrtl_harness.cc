// Drives one PE's streams clock by clock, as PeSpec.stalled_cycles defines, and keeps the items it hands over.
#include "design.cc"

#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

template <size_t N> const cxxrtl::value<N> &bits(const cxxrtl::value<N> &port) { return port; }
template <size_t N> const cxxrtl::value<N> &bits(const cxxrtl::wire<N> &port) { return port.curr; }

struct Stalls { // past its end neither side stalls
    const uint8_t *go;
    int64_t clocks;
    bool operator[](int64_t clock) const { return clock >= clocks || go[clock]; }
};

} // namespace

// Returns the clocks up to and including the one that took item number `expected`, 0 if that is none.
// Runs `spare` clocks more, in which nothing should come, and gives up after `limit` clocks.
EXPORT int64_t pe_run(const uint32_t *payload, int64_t beats, const uint8_t *offered, int64_t offers, const uint8_t *ready,
                      int64_t readies, uint32_t *items, int64_t expected, int64_t limit, int64_t spare,
                      int64_t *handed_over) {
    cxxrtl_design::p_pe pe;
    const Stalls source{offered, offers}, sink{ready, readies};
    const int64_t words = pe.p_i____payload.chunks;
    int64_t position = 0, taken = 0, cycles = 0;
    bool waiting = false;

    pe.p_rst.set<bool>(true);
    for (bool level : {false, true}) pe.p_clk.set<bool>(level), pe.step();
    pe.p_rst.set<bool>(false);

    for (int64_t clock = 0; clock < limit; clock++) {
        const bool begins = !waiting && position < beats && source[clock];
        const bool takes = sink[clock];
        if (begins)
            for (int64_t i = 0; i < words; i++) pe.p_i____payload.data[i] = payload[position * words + i];
        waiting |= begins;
        pe.p_i____valid.set<bool>(waiting);
        pe.p_o____ready.set<bool>(takes);
        pe.p_clk.set<bool>(false);
        pe.step();
        if (takes && bits(pe.p_o____valid).template get<bool>()) {
            const auto &item = bits(pe.p_o____payload);
            if (taken < expected)
                for (size_t i = 0; i < item.chunks; i++) items[taken * item.chunks + i] = item.data[i];
            if (++taken == expected) cycles = clock + 1;
        }
        if (waiting && bits(pe.p_i____ready).template get<bool>()) {
            position++;
            waiting = false;
        }
        pe.p_clk.set<bool>(true);
        pe.step();
        if (position == beats && taken >= expected && spare-- == 0) break;
    }
    *handed_over = taken;
    return cycles;
}
