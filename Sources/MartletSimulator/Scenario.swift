public import Martlet

/// What a run is made of. A seed chooses one: every range of seeds has all kinds.
public struct Scenario: Sendable, Equatable {
    public var partitions = 3
    public var workers = 2
    public var endpoints = 6
    public var events = 40
    public var steps = 350
    /// Chance of a fault per step.
    public var faults = 0.01
    /// Share of the endpoints with strict order, in percent.
    public var strictPercent = 25
    /// Clocks differ by up to so much, and are stepped.
    public var skewMilliseconds: Int64 = 0
    /// Operators edit, pause, delete and create.
    public var edits = false
    /// Retention removes records that nobody has read.
    public var retention = false
    /// A job replays dead letters.
    public var replays = false
    /// The workers' own network breaks.
    public var egress = false
    /// All receivers answer, nothing fails: what is limited must come at its rate.
    public var isCalm = false
    public var defect: Defect?

    public init() {}

    public init(seed: UInt64) {
        var generator = SeededGenerator(seed: seed ^ 0x5ce2_a210)
        func one(_ choices: [Int]) -> Int { choices[Int.random(in: 0..<choices.count, using: &generator)] }
        partitions = one([1, 2, 3, 4])
        workers = one([1, 2, 2, 3])
        endpoints = one([3, 5, 6, 8])
        events = one([20, 30, 40])
        faults = Double(one([0, 5, 10, 20, 50])) / 1_000
        strictPercent = one([0, 25, 50, 100])
        skewMilliseconds = Int64(one([0, 0, 300, 3_000]))
        edits = one([0, 0, 1]) == 1
        retention = one([0, 0, 0, 0, 1]) == 1
        egress = one([0, 0, 0, 0, 1]) == 1
        isCalm = one([0, 0, 0, 0, 0, 0, 0, 1]) == 1
        replays = one([0, 1]) == 1
        if egress { (endpoints, events, strictPercent) = (8, 40, one([0, 25, 100])) }
        if isCalm { (faults, edits, retention, egress, skewMilliseconds) = (0, false, false, false, 0) }
    }
}

/// A deliberate mistake, in the state machine or in the drivers' part of the contract.
public enum Defect: Sendable, Hashable, CustomStringConvertible {
    /// In release builds the state machine has no such switches: there this one does nothing.
    case lane(LaneDefect)
    case driver(DriverDefect)

    public enum DriverDefect: String, Sendable, CaseIterable {
        case commitWhatIsNotOwned, poisonWithoutAKey, holdsInTheHealthTopic, acknowledgeEarly, resetSilently
    }

    public static var all: [Defect] { LaneDefect.allCases.map(Defect.lane) + DriverDefect.allCases.map(Defect.driver) }

    public var description: String {
        switch self {
        case .lane(let defect): defect.rawValue
        case .driver(let defect): defect.rawValue
        }
    }
}
