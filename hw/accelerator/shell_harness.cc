// Carries out a session on an accelerator's AXI ports: register writes, packets in and tiles out, registers again.
#include "design.cc"

#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

template <size_t N> const cxxrtl::value<N> &bits(const cxxrtl::value<N> &port) { return port; }
template <size_t N> const cxxrtl::value<N> &bits(const cxxrtl::wire<N> &port) { return port.curr; }
template <typename Port> uint32_t number(const Port &port) { return bits(port).data[0]; }

struct Stalls { // past its end neither side stalls
    const uint8_t *go;
    int64_t clocks;
    bool operator[](int64_t clock) const { return clock >= clocks || go[clock]; }
};

} // namespace

struct Session {
    const uint32_t *writes; // offset, value
    int64_t n_writes;
    const uint32_t *words; // of the stream in, low half word first
    const uint8_t *lasts;
    int64_t n_words;
    const uint8_t *offered;
    int64_t n_offered;
    const uint8_t *ready;
    int64_t n_ready;
    const uint32_t *finish; // offset, value, whether it is a write
    int64_t n_finish;
    int64_t tiles, limit, after;
    uint32_t *out; // words of the stream out
    uint64_t *keeps;
    uint8_t *out_lasts;
    int64_t capacity;
    uint32_t *reads;
    // what happened
    int64_t n_out, n_tiles, clocks, changed;
};

namespace {

struct Host {
    cxxrtl_design::p_top top;
    Session &session;
    Stalls source, sink;
    int64_t clock = 0, streaming = -1, position = 0;
    bool waiting = false, refused = false;
    cxxrtl::value<PLANEFORGE_BUS> held;

    explicit Host(Session &given)
        : session(given), source{given.offered, given.n_offered}, sink{given.ready, given.n_ready} {}

    void edge(bool level) {
        top.p_clk.set<bool>(level);
        top.step();
    }

    void reset() {
        top.p_rst.set<bool>(true);
        edge(false), edge(true);
        top.p_rst.set<bool>(false);
        edge(false);
    }

    // Inputs, then what combines from them: ports may be read until `after`.
    void before() {
        const int64_t since = streaming < 0 ? -1 : clock - streaming;
        if (!waiting && since >= 0 && position < session.n_words && source[since]) {
            const int64_t chunks = top.p_s__axis__tdata.chunks;
            for (int64_t i = 0; i < chunks; i++)
                top.p_s__axis__tdata.data[i] = session.words[position * chunks + i];
            top.p_s__axis__tlast.set<bool>(session.lasts[position]);
            waiting = true;
        }
        top.p_s__axis__tvalid.set<bool>(waiting);
        top.p_m__axis__output__tready.set<bool>(sink[since < 0 ? 0 : since]);
        edge(false);
    }

    void after() {
        if (waiting && number(top.p_s__axis__tready)) position++, waiting = false;
        const bool valid = number(top.p_m__axis__output__tvalid);
        const auto &data = bits(top.p_m__axis__output__tdata);
        if (refused && !(valid && data == held)) session.changed++;
        const bool takes = top.p_m__axis__output__tready.get<bool>();
        refused = valid && !takes;
        held = data;
        if (valid && takes && session.n_out < session.capacity) {
            const auto &keep = bits(top.p_m__axis__output__tkeep);
            const int64_t at = session.n_out++;
            for (size_t i = 0; i < data.chunks; i++) session.out[at * data.chunks + i] = data.data[i];
            session.keeps[at] = keep.data[0];
            if (keep.chunks > 1) session.keeps[at] |= uint64_t(keep.data[keep.chunks - 1]) << 32;
            session.out_lasts[at] = number(top.p_m__axis__output__tlast);
            if (session.out_lasts[at]) session.n_tiles++, session.clocks = clock - streaming + 1;
        }
        edge(true);
        clock++;
    }

    void write(uint32_t offset, uint32_t value) {
        top.p_s__axi__awaddr.set<uint32_t>(offset);
        top.p_s__axi__wdata.set<uint32_t>(value);
        top.p_s__axi__wstrb.set<uint32_t>(15);
        top.p_s__axi__awvalid.set<bool>(true), top.p_s__axi__wvalid.set<bool>(true);
        top.p_s__axi__bready.set<bool>(true);
        for (bool taken = false; !taken && clock < session.limit; after())
            before(), taken = number(top.p_s__axi__awready);
        top.p_s__axi__awvalid.set<bool>(false), top.p_s__axi__wvalid.set<bool>(false);
        for (bool done = false; !done && clock < session.limit; after())
            before(), done = number(top.p_s__axi__bvalid);
        top.p_s__axi__bready.set<bool>(false);
    }

    uint32_t read(uint32_t offset) {
        top.p_s__axi__araddr.set<uint32_t>(offset);
        top.p_s__axi__arvalid.set<bool>(true), top.p_s__axi__rready.set<bool>(true);
        for (bool taken = false; !taken && clock < session.limit; after())
            before(), taken = number(top.p_s__axi__arready);
        top.p_s__axi__arvalid.set<bool>(false);
        uint32_t value = 0;
        for (bool done = false; !done && clock < session.limit; after()) {
            before(), done = number(top.p_s__axi__rvalid);
            if (done) value = number(top.p_s__axi__rdata);
        }
        top.p_s__axi__rready.set<bool>(false);
        return value;
    }
};

} // namespace

EXPORT void shell_run(Session *session) {
    Host host(*session);
    host.reset();
    for (int64_t i = 0; i < session->n_writes; i++) host.write(session->writes[2 * i], session->writes[2 * i + 1]);
    host.streaming = host.clock;
    bool stopped = false;
    while (host.clock < session->limit && !stopped) {
        host.before();
        stopped = host.position >= session->n_words && session->n_tiles >= session->tiles;
        stopped |= number(host.top.p_irq) != 0;
        host.after();
    }
    for (int64_t i = 0; i < session->after; i++) host.before(), host.after();
    session->limit = INT64_MAX; // the registers answer even where a tile is missing
    int64_t reads = 0;
    for (int64_t i = 0; i < session->n_finish; i++) {
        const uint32_t *op = session->finish + 3 * i;
        if (op[2]) host.write(op[0], op[1]);
        else session->reads[reads++] = host.read(op[0]);
    }
}
