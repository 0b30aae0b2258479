//! Where the layout starts: the leading eigenvectors of the normalised graph (Laplacian
//! eigenmaps, Belkin & Niyogi 2003), one connected component at a time.

use crate::Matrix;
use crate::eigen::{self, Effort};
use crate::math::exp;
use crate::matrix::dot;
use crate::rng::Stream;
use crate::umap::{FuzzyGraph, Metric, UmapParams};

/// The layout starts in a box of this side, as umap-learn's does.
const EXTENT: f64 = 10.0;
/// Size of the random shift that keeps equal points apart, as in umap-learn.
const NOISE: f64 = 1e-4;
/// Up to this many components are placed by their similarity, more on a spiral: the similarities
/// are a dense table. Not tuned: of this size it takes 8 MiB.
const MAX_PLACED: usize = 1024;
/// Width of the iterated block of eigenvectors: those of eight coordinates, and half as many more
/// that make them converge.
const WIDTH: usize = 12;
/// It is a starting point, not a result: umap-learn asks 1e-4 of ARPACK. The rounds are a bound,
/// not tuned.
const EFFORT: Effort = Effort { wanted: 0, tolerance: 1e-4, rounds: 25 };
/// The random stream of the start; the layout's epochs count from 0.
const START_STREAM: u32 = u32::MAX;

/// Starting coordinates, row-major, each column filling [0, 10]. Needs at least two rows.
///
/// A connected graph gets its eigenvectors. Components of a disconnected graph are placed by
/// the similarity of their centroids, each with its own eigenvectors inside its share of the
/// room (`multi_component_layout` of umap-learn).
pub(super) fn initial_layout(points: Matrix<'_>, graph: &FuzzyGraph, params: &UmapParams) -> Vec<f32> {
    let dims = params.n_components;
    let (component, count) = graph.components();
    let mut layout = if count == 1 {
        let mut layout = leading(graph, dims, params.seed);
        scale_to(&mut layout, EXTENT);
        layout
    } else {
        by_component(points, graph, params, &members_of(&component, count))
    };
    for (row, values) in layout.chunks_exact_mut(dims).enumerate() {
        let mut stream = Stream::new(params.seed, START_STREAM, row as u32);
        values.iter_mut().for_each(|v| *v += NOISE * stream.symmetric());
    }
    fill_box(&layout, dims)
}

fn members_of(component: &[u32], count: usize) -> Vec<Vec<u32>> {
    let mut members = vec![Vec::new(); count];
    for (row, c) in component.iter().enumerate() {
        members[*c as usize].push(row as u32);
    }
    members
}

fn by_component(
    points: Matrix<'_>,
    graph: &FuzzyGraph,
    params: &UmapParams,
    members: &[Vec<u32>],
) -> Vec<f64> {
    let dims = params.n_components;
    let places = place_components(points, params, members);
    let mut local = vec![u32::MAX; graph.rows()];
    let mut layout = vec![0.0; graph.rows() * dims];
    for (c, rows) in members.iter().enumerate() {
        let place = &places[c * dims..(c + 1) * dims];
        let room = nearest_gap(&places, dims, c) / 2.0;
        // Too few points for eigenvectors: they start at random places, as in umap-learn.
        let inside = if rows.len() < 2 * dims || rows.len() <= dims + 1 {
            let mut stream = Stream::new(params.seed, START_STREAM - 1, c as u32);
            (0..rows.len() * dims).map(|_| stream.symmetric() * room).collect()
        } else {
            rows.iter().enumerate().for_each(|(i, row)| local[*row as usize] = i as u32);
            let mut inside = leading(&subgraph(graph, rows, &local), dims, params.seed);
            scale_to(&mut inside, room);
            inside
        };
        for (row, inside) in rows.iter().zip(inside.chunks_exact(dims)) {
            let out = &mut layout[*row as usize * dims..][..dims];
            out.iter_mut().zip(inside).zip(place).for_each(|((o, i), p)| *o = i + p);
        }
    }
    layout
}

/// The rows of one component with columns renumbered; a component has no other columns.
fn subgraph(graph: &FuzzyGraph, rows: &[u32], local: &[u32]) -> FuzzyGraph {
    let mut part = FuzzyGraph::empty();
    for row in rows {
        for (column, weight) in graph.row(*row as usize) {
            part.columns.push(local[column as usize]);
            part.weights.push(weight);
        }
        part.offsets.push(part.columns.len());
    }
    part
}

/// One place per component within [-1, 1]: on the axes while those suffice, by the leading
/// eigenvectors of the centroids' similarity up to [`MAX_PLACED`], on a sunflower spiral over
/// the first two coordinates beyond.
fn place_components(points: Matrix<'_>, params: &UmapParams, members: &[Vec<u32>]) -> Vec<f64> {
    let (dims, count) = (params.n_components, members.len());
    if count <= 2 * dims {
        let half = count.div_ceil(2);
        let mut places = vec![0.0; count * dims];
        for c in 0..count {
            places[c * dims + c % half] = if c < half { 1.0 } else { -1.0 };
        }
        return places;
    }
    if count > MAX_PLACED {
        return spiral(count, dims);
    }
    let similarity = similarity_of_centroids(points, params.metric, members);
    let mut places = leading(&similarity, dims, params.seed);
    scale_to(&mut places, 1.0);
    // Equal similarities can put components on one spot; a shift gives each some room.
    for (c, place) in places.chunks_exact_mut(dims).enumerate() {
        let mut stream = Stream::new(params.seed, START_STREAM - 2, c as u32);
        place.iter_mut().for_each(|v| *v += 0.01 * stream.symmetric());
    }
    places
}

fn spiral(count: usize, dims: usize) -> Vec<f64> {
    // Cosine and sine of the golden angle, pi (3 - sqrt 5); turning by multiplication needs no
    // library.
    const TURN: (f64, f64) = (-0.737_368_878_078_319_7, 0.675_490_294_261_523_8);
    let (mut cos, mut sin) = (1.0, 0.0);
    let mut places = vec![0.0; count * dims];
    for (c, place) in places.chunks_exact_mut(dims).enumerate() {
        let radius = ((c as f64 + 0.5) / count as f64).sqrt();
        if let [x, y, ..] = place {
            (*x, *y) = (radius * cos, radius * sin);
        } else {
            place[0] = 2.0 * (c as f64 + 0.5) / count as f64 - 1.0;
        }
        (cos, sin) = (cos * TURN.0 - sin * TURN.1, cos * TURN.1 + sin * TURN.0);
    }
    places
}

/// exp(-(d / mean d)^2) between the centroids of the components, as a full graph.
fn similarity_of_centroids(points: Matrix<'_>, metric: Metric, members: &[Vec<u32>]) -> FuzzyGraph {
    let count = members.len();
    let centroids: Vec<Vec<f32>> = members.iter().map(|rows| centroid(points, metric, rows)).collect();
    let mut distances = vec![0.0; count * count];
    for (i, a) in centroids.iter().enumerate() {
        for (j, b) in centroids.iter().enumerate().take(i) {
            let distance = metric.distance(a, b);
            distances[i * count + j] = distance;
            distances[j * count + i] = distance;
        }
    }
    let mean = (distances.iter().sum::<f64>() / (count * (count - 1)) as f64).max(f64::MIN_POSITIVE);
    let mut graph = FuzzyGraph::empty();
    for i in 0..count {
        for j in (0..count).filter(|j| *j != i) {
            graph.columns.push(j as u32);
            let ratio = distances[i * count + j] / mean;
            // A weight of 0 would cut the graph, and its vectors would be those of a part.
            graph.weights.push(exp(-ratio * ratio).max(1e-12) as f32);
        }
        graph.offsets.push(graph.columns.len());
    }
    graph
}

fn centroid(points: Matrix<'_>, metric: Metric, rows: &[u32]) -> Vec<f32> {
    let mut sum = vec![0.0_f64; points.dims()];
    for row in rows {
        let row = points.row(*row as usize);
        let scale = match metric {
            Metric::Cosine => 1.0 / dot(row, row).sqrt(),
            Metric::Euclidean => 1.0,
        };
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v) * scale);
    }
    sum.iter().map(|s| (s / rows.len() as f64) as f32).collect()
}

/// The leading eigenvectors of a connected graph, row-major, `dims` <= 8 per row. Each has unit
/// length and its largest entry positive. A graph with too few points for `dims` vectors leaves
/// the missing columns 0.
fn leading(graph: &FuzzyGraph, dims: usize, seed: u64) -> Vec<f64> {
    let vectors = eigen::leading::<WIDTH>(graph, Effort { wanted: dims, ..EFFORT }, seed).vectors;
    // An eigenvector is one up to its sign, which rounding decides: without this a map could come
    // out mirrored.
    let signs: Vec<f64> = (0..dims)
        .map(|c| {
            let largest =
                vectors.iter().map(|row| row[c]).fold(0.0, |m: f64, v| if v.abs() > m.abs() { v } else { m });
            if largest < 0.0 { -1.0 } else { 1.0 }
        })
        .collect();
    vectors.iter().flat_map(|row| row.iter().zip(&signs).map(|(v, s)| v * s).collect::<Vec<_>>()).collect()
}

/// Distance from place `c` to the nearest other place that is not on the same spot.
fn nearest_gap(places: &[f64], dims: usize, c: usize) -> f64 {
    let own = &places[c * dims..(c + 1) * dims];
    places
        .chunks_exact(dims)
        .map(|other| own.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt())
        .filter(|d| *d > 0.0)
        .fold(f64::INFINITY, f64::min)
        .min(2.0)
}

/// Scales so that the largest absolute coordinate is `extent`.
fn scale_to(layout: &mut [f64], extent: f64) {
    let largest = layout.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    if largest > 0.0 {
        layout.iter_mut().for_each(|v| *v *= extent / largest);
    }
}

/// Stretches every column to [0, 10].
fn fill_box(layout: &[f64], dims: usize) -> Vec<f32> {
    let mut low = vec![f64::INFINITY; dims];
    let mut high = vec![f64::NEG_INFINITY; dims];
    for row in layout.chunks_exact(dims) {
        for (d, v) in row.iter().enumerate() {
            low[d] = low[d].min(*v);
            high[d] = high[d].max(*v);
        }
    }
    let stretch: Vec<f64> =
        low.iter().zip(&high).map(|(l, h)| if h > l { EXTENT / (h - l) } else { 0.0 }).collect();
    layout.iter().enumerate().map(|(i, v)| ((v - low[i % dims]) * stretch[i % dims]) as f32).collect()
}
