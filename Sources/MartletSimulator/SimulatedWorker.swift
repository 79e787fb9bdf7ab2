internal import Martlet

/// One worker in the simulated world: the real state machines and what their drivers would keep.
final class SimulatedWorker {
    struct Item {
        var record: SimulatedRecord
        var stream: StreamID
        /// From when it could have been started or moved, world time.
        var ready: Int64
        var isRetried: Bool
        /// How many disturbances there had been when it was read.
        var disturbances: Int
        var isBusy = false
        var wasStarted = false
        var hasMoved = false
        var isUnreachable = false
    }

    var core: LaneStateMachine
    var progress = FanOutProgress()
    var clock = BrokerClock()
    /// Of its wall clock and of its monotonic clock to the world's time.
    var skew: Int64
    var monotonicBase: Int64

    var positions: [StreamID: Int64] = [:]
    var items: [RecordToken: Item] = [:]
    var partitions: [Int32] = []
    var eventPositions: [Int: Int64] = [:]
    /// Handed to the fan-out producer and not yet with the brokers, in order.
    var wire: [(token: FanOutProgress.EventToken, index: Int, delivery: Int, partition: Int32, facts: DeliveryFacts)] = []
    var readingAgain: (stream: StreamID, position: Int64)?
    var healthPositions: [Int32: Int] = [:]
    var registryIndex = 0
    var registryLag: Int64
    /// The group's generation that it believes in: the brokers refuse commits of an older one.
    var generation = 0
    var isCommitting = false
    /// As an independent count says: when starts must have stopped.
    var leaseUntil: Int64 = 0
    /// Frozen, or without the brokers, until then.
    var suspendedUntil: Int64 = 0
    var cutOffUntil: Int64 = 0
    var egressBrokenUntil: Int64 = 0
    var silentSince: Int64?
    /// Dies after so many more commands.
    var dooms: Int?
    var endpoints: [Int: EndpointWatch] = [:]
    var unreachable: [(at: Int64, endpoint: Int, failed: Bool)] = []

    init(core: consuming LaneStateMachine, skew: Int64, monotonicBase: Int64, registryLag: Int64) {
        self.core = core
        (self.skew, self.monotonicBase, self.registryLag) = (skew, monotonicBase, registryLag)
    }

    func time(_ now: Int64) -> LaneTime { LaneTime(monotonic: now + monotonicBase, wall: now + skew + clock.aheadMilliseconds) }
    /// How wrong its idea of the brokers' time is.
    var clockError: Int64 { skew + clock.aheadMilliseconds }
}

/// What the checker has seen a worker do to one endpoint.
struct EndpointWatch {
    var inFlight = 0
    var openUntil: Int64?
    var probes: Set<RecordToken> = []
    var failuresInARow = 0
    var firstsWhileRetriedWait = 0
    var disabledVersion: Int?
    /// Published by this owner.
    var health: HealthRecord?
    var healthAt: Int64 = 0
    var run = 0
    var runSince: Int64 = 0
}

/// What is on its way back to a worker.
enum SimulatedArrival {
    case attempt(RecordToken, endpoint: Int, SimulatedReceiver.Answer)
    case acknowledgement(RecordToken, LaneStateMachine.ProduceResult, sent: Int64, appended: Int64?)
    case fanOutAcknowledgement(FanOutProgress.EventToken, index: Int)
    case healthNotWritten(endpointID: String)
    case commitFailed(generation: Int)
    case committed([LaneStateMachine.Commit], [FanOutProgress.PartitionCommit], sent: Int64, generation: Int)
}
