/// Which of a consumer's queues have something to read, and whose turn it is: round robin, and each reading begins behind the one that was served
/// last. (Beginning at the next number instead would give a queue with a backlog the turns of all silent ones before it.) A turn in which nothing
/// is ready, as most are where records come one by one, looks at four words instead of 200 queues.
package struct ReadyQueues {
    private var words: [UInt64]
    private let count: Int
    private var next = 0

    /// All of them are ready: something may have arrived before anyone was told of it.
    package init(count: Int = 0) {
        self.count = count
        words = Array(repeating: 0, count: (count + 63) / 64)
        wakeAll()
    }

    /// One that isn't there is ignored.
    package mutating func wake(_ number: Int) {
        guard number >= 0, number < count else { return }
        words[number >> 6] |= 1 << UInt64(number & 63)
    }

    package mutating func wakeAll() { for number in 0..<count { wake(number) } }

    package mutating func emptied(_ number: Int) { words[number >> 6] &= ~(1 << UInt64(number & 63)) }

    package mutating func served(_ number: Int) { next = number + 1 }

    /// Those that are ready, in the order of this reading.
    package func list(into numbers: inout [Int]) {
        numbers.removeAll(keepingCapacity: true)
        append(next..<count, to: &numbers)
        append(0..<min(next, count), to: &numbers)
    }

    private func append(_ range: Range<Int>, to numbers: inout [Int]) {
        guard !range.isEmpty else { return }
        for index in (range.lowerBound >> 6)...((range.upperBound - 1) >> 6) {
            var word = words[index]
            while word != 0 {
                let number = index << 6 + word.trailingZeroBitCount
                if range.contains(number) { numbers.append(number) }
                word &= word - 1
            }
        }
    }
}
