/// Which of a consumer's partitions needn't be fetched all the time. Every fetch names all partitions that it is for, and so does its answer:
/// where most of them are seldom written to, naming them is most of what an idle consumer does.
///
/// | a partition is | it is fetched | becomes |
/// |---|---|---|
/// | watched | all the time | resting, when nothing has come for a while since its end was reached |
/// | resting | not at all | looked at, when its interval is over; watched, when its owner knows of something new (`wake`) |
/// | looked at | until its end is reached | resting, when nothing came; watched, when something did |
///
/// It decides only; partitions are numbers here, as in the list that it was made for. Times are monotonic milliseconds.
package struct RestingPartitions {
    /// Without anything new, before a partition rests.
    static let quietMilliseconds: Int64 = 500

    private enum State: Equatable {
        /// `endSince`: since when nothing came after its end; nil: its end isn't reached.
        case watched(endSince: Int64?)
        case resting(until: Int64)
        case lookedAt(isWoken: Bool)
    }

    /// nil: always watched.
    private let intervals: [Int64?]
    private var states: [State]
    private var woken: [Int] = []

    /// `intervals`: after how long each partition is looked at while it rests; nil: it never rests.
    package init(intervals: [Int64?] = []) {
        self.intervals = intervals
        states = Array(repeating: .watched(endSince: nil), count: intervals.count)
    }

    /// Its queue was read: whether there were records, and whether its end came last.
    package mutating func wasRead(_ number: Int, hadRecords: Bool, isAtEnd: Bool, now: Int64) {
        guard intervals[number] != nil else { return }
        switch states[number] {
        case .watched(let since): states[number] = .watched(endSince: !isAtEnd ? nil : hadRecords ? now : since ?? now)
        case .lookedAt(let isWoken) where isAtEnd && !hadRecords: states[number] = .watched(endSince: isWoken ? now : .min / 2)
        case .lookedAt: states[number] = .watched(endSince: isAtEnd ? now : nil)
        // What had been fetched before: there may be more of it.
        case .resting: if hadRecords { wake(number, now: now) }
        }
    }

    /// Something new lies in it, which may have been read already.
    package mutating func wake(_ number: Int, now: Int64) {
        switch states[number] {
        case .resting:
            states[number] = .watched(endSince: nil)
            woken.append(number)
        case .watched(endSince: .some): states[number] = .watched(endSince: now)
        // Its end may have been told before.
        case .lookedAt: states[number] = .lookedAt(isWoken: true)
        case .watched: break
        }
    }

    /// Whose fetching is to be paused, and whose resumed.
    package mutating func changes(now: Int64) -> (pause: [Int], resume: [Int]) {
        var changes: (pause: [Int], resume: [Int]) = ([], woken)
        woken.removeAll(keepingCapacity: true)
        for number in states.indices {
            guard let interval = intervals[number] else { continue }
            switch states[number] {
            case .watched(let since?) where now - since >= Self.quietMilliseconds:
                states[number] = .resting(until: now + interval)
                changes.pause.append(number)
            case .resting(let until) where until <= now:
                states[number] = .lookedAt(isWoken: false)
                changes.resume.append(number)
            default: break
            }
        }
        return changes
    }

    /// All that ever rest.
    package var restable: [Int] { intervals.indices.filter { intervals[$0] != nil } }
}
