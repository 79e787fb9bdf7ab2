/// How far a request is written: the target's first lines, its own, which end the head, and its body, one behind the other and in whatever
/// pieces the socket, or TLS, takes.
struct RequestWriter {
    /// Bytes of each part.
    private let start, lines, body: Int
    /// Bytes of all of them together.
    private(set) var written = 0

    init(start: Int = 0, lines: Int = 0, body: Int = 0) { (self.start, self.lines, self.body) = (start, lines, body) }

    var isDone: Bool { written == start + lines + body }

    /// Where what is left of each part begins in it: at its end when nothing is.
    struct Offsets: Equatable {
        var start, lines, body: Int
    }

    var offsets: Offsets {
        Offsets(start: min(written, start), lines: max(0, min(written - start, lines)), body: max(0, written - start - lines))
    }

    /// `count`: no more than is left.
    mutating func wrote(_ count: Int) {
        precondition(count >= 0 && count <= start + lines + body - written)
        written += count
    }
}
