import Martlet
import Testing

struct DeadLetterTests {
    @Test(arguments: 0..<20 as Range<UInt64>) func theLastRecordOfAKeyDecides(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var live = LiveLetters()
        var last: [String: (offset: Int64, isTombstone: Bool)] = [:]
        var records: [(key: String, offset: Int64)] = []
        var offset: Int64 = 0
        for _ in 0..<5_000 {
            offset += Int64.random(in: 1...3, using: &generator)
            let key = "dlv_\(Int.random(in: 0..<2_000, using: &generator))"
            let isTombstone = Int.random(in: 0..<3, using: &generator) == 0
            key.utf8.map(\.self).withUnsafeBytes { live.saw(key: $0, offset: offset, isTombstone: isTombstone) }
            last[key] = (offset, isTombstone)
            records.append((key, offset))
        }
        #expect(live.keys == last.count && live.live == last.values.count { !$0.isTombstone })
        for record in records {
            let expected = last[record.key].map { $0.offset == record.offset && !$0.isTombstone }
            #expect(record.key.utf8.map(\.self).withUnsafeBytes { live.isLive(key: $0, offset: record.offset) } == expected)
        }
        #expect("never seen".utf8.map(\.self).withUnsafeBytes { !live.isLive(key: $0, offset: 1) })
    }

    @Test func theIndexStaysSmall() {
        var live = LiveLetters()
        for number in 0..<200_000 as Range<Int64> {
            withUnsafeBytes(of: number) { live.saw(key: $0, offset: number, isTombstone: false) }
            if live.keys > 1_000 { #expect(live.bytes <= live.keys * 48) }
        }
        #expect(live.live == 200_000)
    }

    static func letter(
        _ id: String = "a", endpoint: String = "ep_1", reason: DeadReason = .exhausted, died: Int64 = 1_000,
        _ change: (inout DeliveryHeaders) -> Void = { _ in }
    ) -> StoredLetter {
        var headers = DeliveryHeaders()
        (headers.eventID, headers.source, headers.type) = (id, "/s", "order.created")
        (headers.endpointID, headers.attempt, headers.lastStatus, headers.rewrites) = (endpoint, 7, 503, 12)
        headers.deliveryID = Identifiers.delivery(messageID: headers.messageID, endpointID: endpoint)
        (headers.firstMilliseconds, headers.ageFromMilliseconds, headers.dueMilliseconds) = (1, 1, 900)
        change(&headers)
        let letter = [UInt8]("{}".utf8).withUnsafeBytes { DeadLetter.letter(headers, reason: reason, body: $0, source: ("retry", 1, 2)) }
        return StoredLetter(
            id: letter.key, topic: "dlq", partition: 3, offset: 42, diedMilliseconds: died, bodyBytes: 2, headers: letter.headers)
    }

    static let poison: StoredLetter = {
        let letter = DeadLetter.poison("no ce_id", headers: [], body: nil, source: ("events", 3, 42), nowMilliseconds: 5)
        return StoredLetter(
            id: letter.key, topic: "dlq", partition: 0, offset: 1, diedMilliseconds: 1_000, bodyBytes: 0, headers: letter.headers)
    }()

    static let targets = [
        "ep_1": LetterPlan.Target(tenant: "default", isEnabled: true, registryOffset: 17),
        "ep_2": LetterPlan.Target(tenant: "default", isEnabled: true, registryOffset: 18),
        "ep_off": LetterPlan.Target(tenant: "default", isEnabled: false, registryOffset: 19),
        "ep_acme": LetterPlan.Target(tenant: "acme", isEnabled: true, registryOffset: 20),
    ]

    static func replayed(_ plan: inout LetterPlan, _ letter: StoredLetter) -> DeliveryHeaders? {
        if case .replay(let delivery) = plan.decide(letter, nowMilliseconds: 5_000) { delivery } else { nil }
    }

    @Test func aReplayIsTheSameDeliveryAsNew() throws {
        var plan = LetterPlan(.replay(to: nil), LetterFilter(), targets: Self.targets)
        let letter = Self.letter()
        let delivery = try #require(Self.replayed(&plan, letter))
        #expect(delivery.deliveryID == letter.id && delivery.messageID == letter.delivery?.messageID && delivery.endpointID == "ep_1")
        #expect(
            delivery.attempt == 0 && delivery.rewrites == 0 && delivery.dueMilliseconds == 5_000 && delivery.ageFromMilliseconds == 5_000)
        #expect(delivery.firstMilliseconds == 1 && delivery.registryOffset == 17 && delivery.replayedFrom == "dlq/3/42")
        #expect(delivery.reason == nil && delivery.lastStatus == nil && delivery.lastError == nil && delivery.type == "order.created")
        #expect(plan.counts.total == 1)
    }

    @Test func anotherEndpointGetsADeliveryOfItsOwn() throws {
        var plan = LetterPlan(.replay(to: "ep_2"), LetterFilter(), targets: Self.targets)
        let letter = Self.letter()
        let delivery = try #require(Self.replayed(&plan, letter))
        let message = try #require(letter.delivery?.messageID)
        #expect(delivery.endpointID == "ep_2" && delivery.deliveryID == Identifiers.delivery(messageID: message, endpointID: "ep_2"))
        #expect(delivery.messageID == message && delivery.registryOffset == 18)
    }

    @Test func whatCantBeDeliveredStays() {
        let cases: [(StoredLetter, String?, LetterPlan.Skip)] = [
            (Self.poison, nil, .poison), (Self.letter(reason: .oversize), nil, .truncated),
            (Self.letter(endpoint: "ep_unknown"), nil, .unregistered),
            (Self.letter(endpoint: "ep_off"), nil, .paused), (Self.letter(), "ep_acme", .otherTenant),
        ]
        for (letter, to, why) in cases {
            var plan = LetterPlan(.replay(to: to), LetterFilter(), targets: Self.targets)
            #expect(Self.replayed(&plan, letter) == nil)
            #expect(plan.counts == .init(acted: [:], skipped: [why: 1]))
            // It can be removed all the same.
            var purge = LetterPlan(.purge, LetterFilter(), targets: [:])
            if case .remove = purge.decide(letter, nowMilliseconds: 0) {} else { Issue.record("\(why) isn't removed") }
        }
    }

    @Test func theLimitStops() {
        var plan = LetterPlan(.purge, LetterFilter(), limit: 2, targets: [:])
        let decisions = (0..<3).map { plan.decide(Self.letter("\($0)"), nowMilliseconds: 0) }
        if case .stop = decisions[2] {} else { Issue.record("goes on after its limit") }
        #expect(plan.counts.total == 2)
    }

    @Test func filtersAreJoined() throws {
        func matches(_ letter: StoredLetter, _ change: (inout LetterFilter) throws -> Void) rethrows -> Bool {
            var filter = LetterFilter()
            try change(&filter)
            return filter.matches(letter)
        }
        let letter = Self.letter(died: 1_000)
        #expect(matches(letter) { _ in } && matches(Self.poison) { _ in })
        #expect(matches(letter) { $0.endpoints = ["ep_0", "ep_1"] } && !matches(letter) { $0.endpoints = ["ep_0"] })
        #expect(matches(letter) { $0.tenants = ["default"] } && !matches(letter) { $0.tenants = ["acme"] })
        #expect(matches(letter) { $0.reasons = ["exhausted"] } && !matches(letter) { $0.reasons = ["parked"] })
        #expect(matches(letter) { $0.statuses = [503] } && !matches(letter) { $0.statuses = [500] })
        #expect(matches(letter) { $0.since = 1_000 } && !matches(letter) { $0.since = 1_001 })
        #expect(matches(letter) { $0.until = 1_001 } && !matches(letter) { $0.until = 1_000 })
        #expect(matches(letter) { $0.ids = [letter.id] } && !matches(letter) { $0.ids = ["dlv_other"] })
        let message = try #require(letter.delivery?.messageID)
        #expect(matches(letter) { $0.ids = [message] } && matches(Self.poison) { $0.ids = [Self.poison.id] })
        #expect(try matches(letter) { $0.types = try Endpoint.patterns(["order.*"]) })
        #expect(try !matches(letter) { $0.types = try Endpoint.patterns(["invoice.*"]) })
        #expect(!matches(Self.poison) { $0.endpoints = ["ep_1"] } && !matches(Self.poison) { $0.types = [.all] })
        #expect(!matches(letter) { ($0.endpoints, $0.reasons) = (["ep_1"], ["parked"]) })
    }

    @Test func timesAreRead() {
        let known: [(String, Int64?)] = [
            ("1970-01-01", 0), ("2026-11-24T08:00:00Z", 1_795_507_200_000), ("2026-11-24T08:00Z", 1_795_507_200_000),
            ("2026-11-24T10:30:00.25+02:30", 1_795_507_200_250), ("2024-02-29", 1_709_164_800_000), ("2026-02-29", nil),
            ("2026-13-01", nil),
            ("2026-11-24T08", nil), ("2026-11-24T08:00:00", nil), ("2026-11-24T24:00:00Z", nil), ("yesterday", nil), ("", nil),
            ("2026-11-24T08:00:00+2", nil), ("-026-11-24", nil), ("2026-11-24T", nil),
        ]
        for (text, expected) in known { #expect(Timestamp.milliseconds(text) == expected, "\(text)") }
        #expect(Timestamp.milliseconds(Timestamp.text(milliseconds: 1_795_507_200_123)) == 1_795_507_200_123)
    }
}

struct EventReplayTests {
    private func replay(
        _ replay: inout EventReplay, type: String = "order.created", tenant: String = "default", at time: Int64 = 1_000
    ) -> FanOut.Delivery? {
        let event = Event(id: "a1", source: "/shop", type: type, tenant: tenant, contentType: "application/json", data: Array("{}".utf8))
        return replay.delivery(
            of: { () throws(Event.Poison) in event }, topic: "martlet.events", partition: 3, offset: 42, timestampMilliseconds: time,
            nowMilliseconds: 5_000)
    }

    @Test func theDeliveryIsNewAndKeepsItsIdentity() throws {
        var endpoint = Endpoint(id: "ep_test", url: "https://receiver.example.com/")
        endpoint.types = [.prefix("order")]
        var plan = EventReplay(to: endpoint, registryOffset: 7, .init(since: 1_000, until: 2_000))
        let headers = try #require(replay(&plan)).headers
        #expect(headers.messageID == "msg_ugl5w4bk2xf6o6ltyd4sngql7u" && headers.deliveryID == "dlv_xxwqdz4b3xhoiqipxao3jfctie")
        #expect(headers.attempt == 0 && headers.dueMilliseconds == 5_000 && headers.ageFromMilliseconds == 5_000)
        #expect(headers.firstMilliseconds == 1_000 && headers.registryOffset == 7)
        #expect(headers.origin == "martlet.events/3/42" && headers.replayedFrom == "martlet.events/3/42")
    }

    @Test func whatIsNotMeantIsCounted() {
        var endpoint = Endpoint(id: "ep_test", url: "https://receiver.example.com/")
        endpoint.types = [.prefix("order")]
        var plan = EventReplay(to: endpoint, registryOffset: 7, .init(since: 1_000, until: 2_000, types: [.exact("order.created")]))
        #expect(replay(&plan, at: 999) == nil && replay(&plan, at: 2_000) == nil && replay(&plan, at: 1_999) != nil)
        #expect(replay(&plan, type: "order.paid") == nil && replay(&plan, type: "invoice.paid") == nil)
        #expect(replay(&plan, tenant: "other") == nil)
        let poison = plan.delivery(
            of: { () throws(Event.Poison) in throw Event.Poison("no ce_id") }, topic: "t", partition: 0, offset: 0,
            timestampMilliseconds: 1_500, nowMilliseconds: 5_000)
        #expect(poison == nil)
        var expected = EventReplay.Counts()
        (expected.read, expected.replayed, expected.outsideTime) = (7, 1, 2)
        (expected.otherType, expected.otherTenant, expected.poison) = (2, 1, 1)
        #expect(plan.counts == expected)
    }

    @Test func theSameReplayHasTheSameName() {
        let range = EventReplay.Range(since: 1, until: 2, types: [.all, .exact("a")])
        var other = range
        other.types.reverse()
        #expect(range.job(endpointID: "ep_1") == other.job(endpointID: "ep_1"))
        #expect(range.job(endpointID: "ep_1") != range.job(endpointID: "ep_2"))
        #expect(EventReplay.Range(since: 12).job(endpointID: "e") != EventReplay.Range(since: 1, until: 2).job(endpointID: "e"))
    }
}
