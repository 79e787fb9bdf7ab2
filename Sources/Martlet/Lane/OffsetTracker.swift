/// Which offsets of one partition are done. Records complete out of order; what may be committed is the lowest offset that is not
/// complete. Offsets that a fetch skips (transaction markers, compaction) count as complete.
///
/// | an offset is | then | it becomes |
/// |---|---|---|
/// | unread (from `next` on) | it is read | incomplete, or complete if a predecessor's list says so |
/// | unread | the fetch skips it, or the end lies behind it | complete |
/// | incomplete | its record is done | complete, once |
/// | complete, and all below it | | below the watermark: committed |
/// | incomplete or complete above the watermark | | listed in the commit's metadata |
public struct OffsetTracker: Sendable, Equatable {
    /// How far reading may run ahead of the lowest incomplete offset.
    public static let spanLimit: Int64 = 131_072

    /// The lowest offset that this assignment hasn't seen complete.
    private var low: Int64
    /// The next offset to be read.
    public private(set) var next: Int64
    /// Records begun and not complete.
    public private(set) var incomplete = 0
    /// Bits of [base, base + 64 * words.count): 1 is complete. `base` is a multiple of 64 and not above `low`.
    private var words: [UInt64] = []
    private var base: Int64
    /// What a predecessor completed above the committed offset: skipped when read again.
    private var inherited: Inherited?

    private struct Inherited: Sendable, Equatable {
        var committed: Int64
        var incomplete: Set<Int64>
        var highestCompleted: Int64
    }

    /// Starts at the committed offset with what its metadata says.
    public init(start: Int64, completed: CommitMetadata.Completed? = nil) {
        low = start
        next = start
        base = start & ~63
        guard let completed else { return }
        inherited = Inherited(committed: start, incomplete: Set(completed.incomplete), highestCompleted: completed.highestCompleted)
    }

    public enum Begun: Equatable {
        /// To be processed.
        case fresh
        /// A predecessor has done it, or it was read before.
        case alreadyDone
    }

    /// A record was read. Offsets between the last one and this one don't exist any more.
    public mutating func begin(_ offset: Int64) -> Begun {
        guard offset >= next else { return .alreadyDone }
        skip(to: offset)
        next = offset + 1
        if let known = inherited {
            if offset > known.highestCompleted {
                inherited = nil
            } else if offset > known.committed, !known.incomplete.contains(offset) {
                mark(offset)
                return .alreadyDone
            }
        }
        incomplete += 1
        return .fresh
    }

    /// Everything below `offset` has been read: what does not exist there is complete.
    public mutating func endReached(_ offset: Int64) {
        guard offset > next else { return }
        skip(to: offset)
    }

    /// Returns false for an offset that isn't begun and incomplete.
    @discardableResult
    public mutating func complete(_ offset: Int64) -> Bool {
        guard offset >= low, offset < next, !isComplete(offset) else { return false }
        incomplete -= 1
        mark(offset)
        return true
    }

    /// The lowest offset that is not complete: what is committed. When all that was read is complete, what a predecessor's list says of the
    /// offsets behind it counts too: the committed offset itself is taken for incomplete by whoever reads the metadata.
    public var watermark: Int64 {
        guard low == next, let known = inherited, next > known.committed, next <= known.highestCompleted else { return low }
        return known.incomplete.filter { $0 >= next }.min() ?? known.highestCompleted + 1
    }

    public var span: Int64 { next - low }
    public var isIdle: Bool { incomplete == 0 }

    /// The incomplete offsets above the watermark up to the highest complete one; nil when nothing above it is complete. What a
    /// predecessor's list says of offsets that aren't read again yet is passed on.
    public var completed: CommitMetadata.Completed? {
        let watermark = watermark
        var missing: [Int64] = []
        var highest: Int64?
        var pending: [Int64] = []
        var offset = watermark + 1
        while offset < next {
            if isComplete(offset) {
                missing += pending
                pending.removeAll(keepingCapacity: true)
                highest = offset
            } else {
                pending.append(offset)
            }
            offset += 1
        }
        if let known = inherited, known.highestCompleted >= next, known.highestCompleted > watermark {
            missing += pending + known.incomplete.filter { $0 >= next && $0 > watermark }.sorted()
            highest = known.highestCompleted
        }
        return highest.map { CommitMetadata.Completed(incomplete: missing, highestCompleted: $0) }
    }

    private func isComplete(_ offset: Int64) -> Bool {
        let index = Int((offset - base) >> 6)
        guard offset >= base, index < words.count else { return false }
        return words[index] & (1 << UInt64(offset & 63)) != 0
    }

    private mutating func skip(to offset: Int64) {
        if next == low, incomplete == 0 {
            // Nothing is open: the window just moves.
            next = max(next, offset)
            low = next
            base = low & ~63
            words.removeAll(keepingCapacity: true)
            return
        }
        while next < offset {
            mark(next)
            next += 1
        }
    }

    private mutating func mark(_ offset: Int64) {
        let index = Int((offset - base) >> 6)
        while words.count <= index { words.append(0) }
        words[index] |= 1 << UInt64(offset & 63)
        if offset == low { advance() }
    }

    private mutating func advance() {
        let limit = max(next, low + 1)
        while low < limit {
            let index = Int((low - base) >> 6)
            guard index < words.count else { break }
            let open = ~words[index] >> UInt64(low & 63)
            if open == 0 {
                low = (low | 63) + 1
            } else {
                low += Int64(open.trailingZeroBitCount)
                break
            }
        }
        let passed = Int((low - base) >> 6)
        if passed >= 64 || passed >= words.count {
            words.removeFirst(min(passed, words.count))
            base += Int64(passed) << 6
        }
    }
}

extension OffsetTracker? {
    /// Where there is none. Not a comparison with nil, which copies the one that is there.
    mutating func startIfNew(at offset: Int64) {
        if case .none = self { self = OffsetTracker(start: offset) }
    }
}
