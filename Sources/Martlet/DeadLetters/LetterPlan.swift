/// What is done with dead letters, one after the other: decides and counts, and does nothing itself.
public struct LetterPlan: Sendable {
    public enum Action: Sendable, Equatable {
        /// Delivered again; `to`: to this endpoint instead of its own.
        case replay(to: String?)
        /// Removed.
        case purge
    }

    /// Why a letter that matches stays where it is.
    public enum Skip: String, Sendable, CaseIterable {
        case poison = "no delivery: poison"
        case truncated = "its body was cut"
        case unregistered = "its endpoint isn't registered, or its record can't be read"
        case paused = "its endpoint is paused or disabled"
        case otherTenant = "the endpoint belongs to another tenant"
        case replaced = "died again meanwhile: a newer letter took its place"
    }

    /// What it must know of an endpoint.
    public struct Target: Sendable {
        public var tenant: String
        public var isEnabled: Bool
        /// How far the registry had been read.
        public var registryOffset: Int64
        public init(tenant: String, isEnabled: Bool, registryOffset: Int64) {
            (self.tenant, self.isEnabled, self.registryOffset) = (tenant, isEnabled, registryOffset)
        }
    }

    public enum Decision: Sendable {
        case ignore
        case skip(Skip)
        case remove
        /// Written to the replay topic, and the letter removed with it.
        case replay(DeliveryHeaders)
        /// The limit is reached.
        case stop
    }

    /// What letters are counted by.
    public struct Cause: Sendable, Hashable, Comparable {
        public var endpoint: String
        public var reason: String
        public init(_ letter: StoredLetter) {
            (endpoint, reason) = (letter.delivery?.endpointID ?? "-", letter.reason ?? "-")
        }
        public static func < (left: Self, right: Self) -> Bool { (left.endpoint, left.reason) < (right.endpoint, right.reason) }
    }

    public struct Counts: Sendable, Equatable {
        public var acted: [Cause: Int] = [:]
        public var skipped: [Skip: Int] = [:]
        /// Ids that were asked for and that no live letter has.
        public var unknownIDs = 0
        public init(acted: [Cause: Int] = [:], skipped: [Skip: Int] = [:]) { (self.acted, self.skipped) = (acted, skipped) }
        public var total: Int { acted.values.reduce(0, +) }
    }

    private let filter: LetterFilter
    private let action: Action
    private let limit: Int?
    /// The registry's endpoints by id.
    public var targets: [String: Target]
    public private(set) var counts = Counts()
    private var unseenIDs: Set<String>

    /// `limit`: of letters acted on. `targets`: the registry's endpoints by id.
    public init(_ action: Action, _ filter: LetterFilter, limit: Int? = nil, targets: [String: Target]) {
        (self.action, self.filter, self.limit, self.targets) = (action, filter, limit, targets)
        unseenIDs = filter.ids
        counts.unknownIDs = unseenIDs.count
    }

    /// What was decided of the letter isn't done: a newer one has taken its place.
    public mutating func revoke(_ letter: StoredLetter) {
        counts.acted[Cause(letter), default: 0] -= 1
        counts.skipped[.replaced, default: 0] += 1
    }

    /// Of a live letter.
    public mutating func decide(_ letter: StoredLetter, nowMilliseconds now: Int64) -> Decision {
        if !unseenIDs.isEmpty {
            unseenIDs.remove(letter.id)
            if let delivery = letter.delivery { unseenIDs.remove(delivery.messageID) }
            counts.unknownIDs = unseenIDs.count
        }
        guard filter.matches(letter) else { return .ignore }
        if let limit, counts.total >= limit { return .stop }
        guard case .replay(let other) = action else {
            count(letter)
            return .remove
        }
        guard let dead = letter.delivery else { return skip(.poison) }
        guard letter.truncatedFrom == nil, letter.reason != DeadReason.oversize.rawValue else { return skip(.truncated) }
        guard let target = targets[other ?? dead.endpointID] else { return skip(.unregistered) }
        guard target.tenant == dead.tenant else { return skip(.otherTenant) }
        guard target.isEnabled else { return skip(.paused) }
        count(letter)
        return .replay(Self.replayed(dead, of: letter, to: other, registryOffset: target.registryOffset, nowMilliseconds: now))
    }

    /// The same delivery, as new: no attempt made, due at once, of age 0.
    private static func replayed(
        _ dead: DeliveryHeaders, of letter: StoredLetter, to other: String?, registryOffset: Int64, nowMilliseconds now: Int64
    ) -> DeliveryHeaders {
        var delivery = dead
        if let other {
            delivery.endpointID = other
            delivery.deliveryID = Identifiers.delivery(messageID: dead.messageID, endpointID: other)
        }
        (delivery.attempt, delivery.rewrites) = (0, 0)
        (delivery.dueMilliseconds, delivery.ageFromMilliseconds) = (now, now)
        (delivery.lastStatus, delivery.lastError, delivery.reason) = (nil, nil, nil)
        delivery.registryOffset = registryOffset
        delivery.replayedFrom = letter.coordinates
        return delivery
    }

    private mutating func skip(_ why: Skip) -> Decision {
        counts.skipped[why, default: 0] += 1
        return .skip(why)
    }

    private mutating func count(_ letter: StoredLetter) { counts.acted[Cause(letter), default: 0] += 1 }
}
