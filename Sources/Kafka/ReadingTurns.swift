/// Whose turn it is to be read: round robin, and each reading begins behind the one that was served last. (Beginning at the next number
/// instead would give a queue with a backlog the turns of all silent ones before it.)
package struct ReadingTurns {
    private var next = 0

    package init() {}

    /// The `step`th of `count` in this reading, from 0.
    package func number(_ step: Int, of count: Int) -> Int { (next + step) % count }

    package mutating func served(_ number: Int) { next = number + 1 }
}
