import EventLoop
import Testing

@testable import Kafka

struct KafkaSettingsTests {
    @Test func aMisspeltPropertyIsNamed() {
        let settings = KafkaSettings(brokers: "127.0.0.1:1", properties: [("securty.protocol", "PLAINTEXT")])
        #expect(throws: KafkaError(.configuration, "librdkafka has no property 'securty.protocol'; check its spelling")) {
            try settings.validate()
        }
    }

    @Test func aBadValueIsNotPrinted() {
        do {
            try KafkaSettings(brokers: "127.0.0.1:1", properties: [("security.protocol", "hunter2")]).validate()
            Issue.record("accepted")
        } catch { #expect(error.message.contains("security.protocol") && !error.message.contains("hunter2")) }
    }

    @Test(arguments: ["acks", "enable.idempotence", "group.id", "auto.offset.reset", "partitioner"]) func whatDeliveryRestsOnIsReserved(
        _ name: String
    ) {
        #expect(throws: KafkaError.self) { try KafkaSettings(brokers: "127.0.0.1:1", properties: [(name, "1")]).validate() }
    }

    @Test func propertiesOfUsersAreAccepted() throws {
        try KafkaSettings(
            brokers: "127.0.0.1:1",
            properties: [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "PLAIN"), ("sasl.username", "u"), ("sasl.password", "p")]
        ).validate()
    }
}

@Suite(.serialized) struct EmbeddedKafkaTests {
    let cluster: EmbeddedCluster
    init() throws { cluster = try EmbeddedCluster(topics: [("t", 4), ("one", 1)]) }

    func produce(_ records: [OutgoingRecord]) throws -> [Producer.Report] {
        let producer = try Producer(cluster.settings)
        var reports: [Producer.Report] = []
        for (index, record) in records.enumerated() { #expect(producer.produce(record, token: UInt64(index)) == .queued) }
        let isFlushed = producer.flush(milliseconds: 10_000) { reports.append($0) }
        #expect(isFlushed)
        return reports.sorted { $0.token < $1.token }
    }

    @Test func recordsSurviveTheTrip() throws {
        let record = OutgoingRecord(
            topic: "one", partition: 0, key: Array("k".utf8), value: Array("v".utf8),
            headers: [("a", Array("1".utf8)), ("b", [0xff, 0x00])], timestampMilliseconds: 1_234)
        let reports = try produce([
            record, OutgoingRecord(topic: "one", partition: 0, key: nil, value: nil),
            OutgoingRecord(topic: "one", partition: 0, key: nil, value: []),
        ])
        #expect(reports.map(\.offset) == [0, 1, 2] && reports.allSatisfy { $0.error == nil && $0.at.topic == "one" })
        var seen: [KafkaMessage] = []
        try TopicReader.scan(cluster.settings, [TopicPartition("one", 0)]) { seen.append($0) }
        #expect(seen.count == 3 && seen[0].key.map { Array($0) } == Array("k".utf8) && seen[0].value.map { Array($0) } == Array("v".utf8))
        #expect(
            seen[0].headers.map(\.name) == ["a", "b"] && seen[0].headers[1].value == [0xff, 0x00] && seen[0].timestampMilliseconds == 1_234)
        #expect(seen[1].key == nil && seen[1].value == nil && seen[2].value?.count == 0)
    }

    @Test func keysGoWhereOtherClientsPutThem() throws {
        let keys = (0..<40).map { "key-\($0)" }
        let reports = try produce(keys.map { OutgoingRecord(topic: "t", key: Array($0.utf8), value: [1]) })
        for (key, report) in zip(keys, reports) { #expect(report.at.partition == Murmur2.partition(of: Array(key.utf8), count: 4)) }
    }

    @Test func afterAFatalErrorTheHandleIsMadeAnew() throws {
        let producer = try Producer(cluster.settings)
        cluster.setReachable(false)
        var failed: [UInt64] = []
        #expect(producer.produce(OutgoingRecord(topic: "one", partition: 0, key: nil, value: [1]), token: 7) == .queued)
        producer.injectFatalError()
        cluster.setReachable(true)
        for _ in 0..<50 where producer.rebuilds == 0 {
            producer.drainReports(waitMilliseconds: 100) { if $0.error != nil { failed.append($0.token) } }
        }
        #expect(producer.rebuilds == 1 && failed == [7])
        #expect(producer.produce(OutgoingRecord(topic: "one", partition: 0, key: nil, value: [2]), token: 8) == .queued)
        var done: [UInt64] = []
        let isFlushed = producer.flush(milliseconds: 20_000) { if $0.error == nil { done.append($0.token) } }
        #expect(isFlushed && done == [8])
    }

    @Test(arguments: [false, true]) func whoWatchesReportsIsWokenUnlessTheyAreSilent(_ areSilent: Bool) throws {
        var options = Producer.Options()
        options.areReportsSilent = areSilent
        let producer = try Producer(cluster.settings, options)
        let loop = EventLoop()
        loop.watch(producer.reportsReady, for: .readable, token: 0)
        func isWoken() -> Bool {
            var count = 0
            loop.wait(milliseconds: 0) { _ in count += 1 }
            return count > 0
        }
        #expect(!isWoken())
        #expect(producer.produce(OutgoingRecord(topic: "one", partition: 0, key: nil, value: [1]), token: 7) == .queued)
        var reported: [UInt64] = []
        producer.drainReports(waitMilliseconds: 20_000, isReady: false) { reported.append($0.token) }
        #expect(reported == [7] && isWoken() == !areSilent)
        producer.drainReports { reported.append($0.token) }
        #expect(reported == [7] && !isWoken())
    }

    @Test func producersThatChangeKeepTheOrder() throws {
        var options = Producer.Options()
        options.lingerMilliseconds = 0
        var producers = try PartitionedProducers(cluster.settings, options, count: 2, gatheringMilliseconds: 5)
        var changes = 0
        var reported: [[(offset: Int64, token: UInt64)]] = Array(repeating: [], count: 4)
        let (loop, deadline) = (EventLoop(), SystemClock.monotonicMilliseconds() + 30_000)
        producers.wake(loop, true, token: 0)
        func drain() { producers.drainReports { if $0.error == nil { reported[Int($0.at.partition)].append(($0.offset, $0.token)) } } }
        func drainAll() {
            while producers.outstanding > 0, SystemClock.monotonicMilliseconds() < deadline {
                loop.wait(milliseconds: 100) { _ in }
                drain()
            }
            #expect(producers.outstanding == 0)
        }
        for number in 0..<2_000 {
            if number % 200 == 199 {
                drainAll()
                producers.isGathering.toggle()
                #expect((producers[0] === producers[1]) == producers.isGathering && producers[0] === producers[2])
                changes += 1
            }
            let partition = Int32(number % 4)
            let record = OutgoingRecord(topic: "t", partition: partition, key: nil, value: [])
            #expect(producers[partition].produce(record, token: UInt64(number)) == .queued)
            if number % 10 == 0 { drain() }
        }
        drainAll()
        #expect(changes == 10 && producers.rebuilds == 0)
        for partition in 0..<4 {
            #expect(reported[partition].sorted { $0.offset < $1.offset }.map(\.token) == (0..<500).map { UInt64($0 * 4 + partition) })
        }
    }

    /// Nobody else has the array: it would be gone before librdkafka sends it.
    @Test(arguments: [false, true]) func aValueIsKeptUntilItsRecordIsReported(_ keeps: Bool) throws {
        var options = Producer.Options()
        options.keepsValues = keeps
        let producer = try Producer(cluster.settings, options)
        func value(_ number: UInt64) -> [UInt8] { Array(repeating: UInt8(number), count: 5_000 + Int(number)) }
        cluster.setReachable(false)
        for token in UInt64(0)..<100 {
            let queued = Array("key".utf8).withUnsafeBufferPointer { key in
                producer.produce(topic: "one", partition: 0, key: key.span, keeping: value(token), token: token) { _ in }
            }
            #expect(queued == .queued)
        }
        // A tombstone, a value that is nothing, and one that lies elsewhere.
        #expect(producer.produce(OutgoingRecord(topic: "one", partition: 0, key: [1], value: nil), token: 100) == .queued)
        #expect(producer.produce(OutgoingRecord(topic: "one", partition: 0, key: [1], value: []), token: 101) == .queued)
        let lying = OutgoingRecord(topic: "one", partition: 0, key: [1], value: nil)
        #expect(value(102).withUnsafeBytes { producer.produce(lying, value: $0, token: 102) } == .queued)
        cluster.setReachable(true)
        var reported: [UInt64] = []
        let isFlushed = producer.flush(milliseconds: 20_000) { if $0.error == nil { reported.append($0.token) } }
        #expect(isFlushed && reported.sorted() == Array(0...102))

        let reader = try TopicReader(cluster.settings)
        var read: [[UInt8]?] = []
        try reader.read(TopicPartition("one", 0), from: 0, below: 103) { message in
            read.append(message.value.map { Array($0) })
            return true
        }
        #expect(read == (0..<100).map { value($0) } + [nil, [], value(102)])
    }

    @Test func transactionsCommit() throws {
        var options = Producer.Options()
        options.transactionalID = "x"
        let producer = try Producer(cluster.settings, options)
        try producer.initTransactions()
        try producer.beginTransaction()
        #expect(producer.produce(OutgoingRecord(topic: "one", partition: 0, key: nil, value: [1]), token: 0) == .queued)
        let isFlushed = producer.flush(milliseconds: 10_000) { #expect($0.error == nil) }
        #expect(isFlushed)
        try producer.commitTransaction()
    }

    @Test func aGroupCommitsWithMetadataAndReadsItBack() throws {
        _ = try produce((0..<5).map { OutgoingRecord(topic: "one", partition: 0, key: nil, value: [UInt8($0)]) })
        let consumer = try GroupConsumer(cluster.settings, .init(group: "g"))
        try consumer.subscribe(["one"])
        let loop = EventLoop()
        loop.watch(consumer.ready, token: 1)
        var (read, queues, isCommitted): ([Int64], [PartitionQueue], Bool?) = ([], [], nil)
        var end: Int64?
        for _ in 0..<2_000 where isCommitted == nil {
            consumer.poll { event in
                switch event {
                case .assigned(let partitions):
                    // One more topic than the subscription has: that is how lanes own all their topics.
                    let starts = (try? consumer.committed(partitions, timeoutMilliseconds: 5_000)) ?? []
                    #expect(starts.allSatisfy { $0.offset == nil })
                    queues = (try? consumer.assign(starts + [PartitionOffset(TopicPartition("t", 2), offset: 0)]) { UInt32($0) }) ?? []
                case .committed(_, let error): isCommitted = error == nil
                default: break
                }
            }
            for queue in queues where queue.at.topic == "one" {
                _ = queue.read(limit: 10) { event in
                    if case .message(let message) = event { read.append(message.offset) }
                    if case .end(let offset) = event { end = offset }
                }
            }
            if end == 5, read.count == 5 {
                end = nil
                _ = try consumer.commit([
                    PartitionOffset(TopicPartition("one", 0), offset: 3, metadata: "w1:abc"),
                    PartitionOffset(TopicPartition("t", 2), offset: 0, metadata: "x"),
                ])
            }
            loop.wait(milliseconds: 20) { _ in }
            _ = consumer.ready.drain()
        }
        #expect(read == [0, 1, 2, 3, 4] && isCommitted == true)
        let back = try consumer.committed([TopicPartition("one", 0), TopicPartition("t", 2)], timeoutMilliseconds: 5_000)
        #expect(back.map(\.offset) == [3, 0] && back.map(\.metadata) == ["w1:abc", "x"])
        queues = []
        consumer.unassign()
        consumer.beginClose()
        while !consumer.isClosed { consumer.poll { if case .revoked = $0 { consumer.unassign() } } }
    }

    /// 500 kB.
    static let incompressible: [UInt8] = {
        var state: UInt64 = 1
        return (0..<500_000).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1
            return UInt8(truncatingIfNeeded: state >> 33)
        }
    }()

    /// A partition whose position retention has passed is read on from the log's start, the others where they were.
    @Test func readingGoesOnBehindALoss() throws {
        for _ in 0..<14 { _ = try produce([OutgoingRecord(topic: "one", partition: 0, key: nil, value: Self.incompressible)]) }
        _ = try produce([OutgoingRecord(topic: "t", partition: 1, key: nil, value: [1])])
        let (cut, other) = (TopicPartition("one", 0), TopicPartition("t", 1))
        let consumer = try GroupConsumer(cluster.settings, .init(group: "l"))
        try consumer.subscribe(["t"])
        let loop = EventLoop()
        loop.watch(consumer.ready, token: 1)
        var (queues, read, ends, low): ([PartitionQueue], [Int64], [TopicPartition: Int64], Int64?) = ([], [], [:], nil)
        for _ in 0..<2_000 where ends[cut] == nil {
            consumer.poll {
                guard case .assigned = $0 else { return }
                queues = (try? consumer.assign([PartitionOffset(cut, offset: 0), PartitionOffset(other, offset: 0)]) { UInt32($0) }) ?? []
            }
            for queue in queues {
                _ = queue.read(limit: 10) { event in
                    switch event {
                    case .message(let message): if queue.at == cut { read.append(message.offset) }
                    case .end(let offset): ends[queue.at] = offset
                    case .outOfRange where low == nil: low = try? consumer.queryWatermarks(cut, timeoutMilliseconds: 5_000).low
                    default: break
                    }
                }
            }
            if let start = low, start >= 0, ends[other] == 1 {
                try consumer.assignAgain([PartitionOffset(cut, offset: start), PartitionOffset(other, offset: 1)])
                low = -1
                ends[other] = nil
                #expect(start > 0)
            }
            loop.wait(milliseconds: 20) { _ in }
            _ = consumer.ready.drain()
        }
        #expect(ends[cut] == 14 && read.last == 13 && read.first ?? 0 > 0)
        queues = []
        consumer.unassign()
        consumer.beginClose()
        while !consumer.isClosed { consumer.poll { if case .revoked = $0 { consumer.unassign() } } }
    }

    @Test func aPausedPartitionGoesOnWhereItWas() throws {
        let at = TopicPartition("one", 0)
        func value(_ number: UInt8) -> OutgoingRecord { OutgoingRecord(topic: "one", partition: 0, key: nil, value: [number]) }
        _ = try produce([value(0), value(1)])
        let consumer = try GroupConsumer(cluster.settings, .init(group: "p"))
        try consumer.subscribe(["t"])
        let loop = EventLoop()
        loop.watch(consumer.ready, token: 1)
        var (queues, read, ends): ([PartitionQueue], [Int64], [Int64]) = ([], [], [])
        /// Until the condition holds, or so many turns of 20 ms are over.
        func turn(_ turns: Int = 2_000, until isDone: () -> Bool) {
            for _ in 0..<turns where !isDone() {
                consumer.poll {
                    if case .assigned = $0 { queues = (try? consumer.assign([PartitionOffset(at, offset: 0)]) { UInt32($0) }) ?? [] }
                }
                for queue in queues {
                    _ = queue.read(limit: 10) { event in
                        if case .message(let message) = event { read.append(message.offset) }
                        if case .end(let offset) = event { ends.append(offset) }
                    }
                }
                loop.wait(milliseconds: 20) { _ in }
                _ = consumer.ready.drain()
            }
        }
        turn { ends == [2] }
        consumer.pause([PartitionOffset(at, offset: 2)])
        _ = try produce([value(2), value(3)])
        turn(10) { read.count > 2 }
        #expect(read == [0, 1] && ends == [2], "it is paused")
        consumer.resume([at])
        turn { ends.last == 4 }
        #expect(read == [0, 1, 2, 3] && ends.last == 4)
        // Without anything new its end is told all the same: that is how a look knows that it is over.
        consumer.pause([PartitionOffset(at, offset: 4)])
        ends = []
        consumer.resume([at])
        turn { !ends.isEmpty }
        #expect(read == [0, 1, 2, 3] && ends == [4])
        queues = []
        consumer.unassign()
        consumer.beginClose()
        while !consumer.isClosed { consumer.poll { if case .revoked = $0 { consumer.unassign() } } }
    }

    /// The embedded cluster keeps 5 MiB of a partition: what lies below is gone as after retention.
    @Test(arguments: [TopicReader.Loss.tell, .readOn]) func lossIsToldToWhoAsksForIt(_ onLoss: TopicReader.Loss) throws {
        for _ in 0..<14 { _ = try produce([OutgoingRecord(topic: "one", partition: 0, key: nil, value: Self.incompressible)]) }
        let reader = try TopicReader(cluster.settings, onLoss: onLoss)
        let at = TopicPartition("one", 0)
        let low = try reader.watermarks(at).low
        #expect(low > 0)
        try reader.start(at, from: .offset(0))
        defer { reader.stop(at) }
        for _ in 0..<100 {
            guard let (_, event) = reader.next(waitMilliseconds: 100) else { continue }
            switch event {
            case .outOfRange: #expect(onLoss == .tell)
            case .message(let message): #expect(onLoss == .readOn && message.offset >= low)
            default: continue
            }
            return
        }
        Issue.record("neither a record nor word of a loss")
    }

    @Test func anUnreachableBrokerIsSaidToBeOne() throws {
        let admin = try TopicAdmin(KafkaSettings(brokers: "127.0.0.1:1", log: { _, _ in }), timeoutMilliseconds: 300)
        do {
            _ = try admin.describe()
            Issue.record("reached")
        } catch { #expect(error.isUnreachable) }
    }
}
